//! Sections 2.1 to 2.4 of the contract, read as plainly as they are written. Knows nothing of the product.

use std::net::IpAddr;

#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) permissions: Vec<String>,
    pub(crate) enabled: bool,
    pub(crate) removed: bool,
    pub(crate) attributes: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) method: String,
    pub(crate) template: String,
    pub(crate) tags: Vec<String>,
    pub(crate) modes: Vec<&'static str>,
    pub(crate) removed: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Credential {
    pub(crate) mode: &'static str,
    pub(crate) id: u64,
    pub(crate) superuser: bool,
    /// The bound agent, or a superuser key's default.
    pub(crate) agent: Option<u64>,
    pub(crate) tags: Vec<String>,
    pub(crate) code: String,
    pub(crate) retiring: Option<(String, u64)>,
    pub(crate) enabled: bool,
    pub(crate) revoked: bool,
    pub(crate) not_before: Option<u64>,
    pub(crate) expires_at: Option<u64>,
    pub(crate) allow_ip: Option<Vec<&'static str>>,
    pub(crate) app_id: Option<u64>,
    /// Mode and id of what a token was made from.
    pub(crate) parent: Option<(&'static str, u64)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Record {
    Agent(Agent),
    Endpoint(Endpoint),
    Credential(Credential),
}

impl Record {
    /// Two records with the same name are the same one at two times.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Agent(agent) => format!("agent {}", agent.id),
            Self::Endpoint(endpoint) => format!("{} {}", endpoint.method, shape(&endpoint.template)),
            Self::Credential(credential) => format!("{} {}", credential.mode, credential.id),
        }
    }
}

/// The template with the names of its parameters left out.
fn shape(template: &str) -> String {
    let mut in_name = false;
    let kept = template.chars().filter(|c| {
        in_name = (in_name || *c == '{') && *c != '}';
        !in_name || matches!(c, '{' | '.')
    });
    kept.collect()
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) agents: Vec<Agent>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) credentials: Vec<Credential>,
}

impl World {
    pub(crate) fn of<'r>(records: impl IntoIterator<Item = &'r Record>) -> Self {
        let mut world = Self::default();
        for record in records {
            match record.clone() {
                Record::Agent(agent) => world.agents.push(agent),
                Record::Endpoint(endpoint) => world.endpoints.push(endpoint),
                Record::Credential(credential) => world.credentials.push(credential),
            }
        }
        world
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) credential: Option<Vec<u8>>,
    pub(crate) agent: Option<Vec<u8>>,
    pub(crate) address: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Target {
    Nobody,
    Endpoint(Vec<u8>, Vec<u8>),
    Tags(Vec<Vec<u8>>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    No(String),
    Yes { who: Option<Who>, route: Option<(String, Vec<String>)> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) mode: String,
    pub(crate) id: u64,
    pub(crate) code: String,
    pub(crate) expires_at: Option<u64>,
    pub(crate) app_id: Option<u64>,
    pub(crate) agent: u64,
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) switched: bool,
}

/// The table of section 2.4, a row at a time.
pub(crate) fn answer(world: &World, ask: &Ask, target: &Target, now: u64) -> Answer {
    decide(world, ask, target, now).unwrap_or_else(|reason| Answer::No(reason.to_string()))
}

type Reason = &'static str;

fn decide(world: &World, ask: &Ask, target: &Target, now: u64) -> Result<Answer, Reason> {
    // 1
    let wanted = match &ask.agent {
        Some(header) => Some(number(header).ok_or("BadRequest")?),
        None => None,
    };
    ensure(is_well_formed(target), "BadRequest")?;
    // 2
    let found = match target {
        Target::Endpoint(method, path) => Some(find(world, method, path)),
        Target::Nobody | Target::Tags(_) => None,
    };
    if let Some(Ok(endpoint)) = &found
        && endpoint.modes == ["public"]
    {
        return Ok(Answer::Yes { who: None, route: Some((endpoint.template.clone(), endpoint.tags.clone())) });
    }
    // 3
    let header = ask.credential.as_ref().filter(|header| !header.is_empty()).ok_or("MissingCredential")?;
    let (mode, id, code) = read_credential(header).ok_or("MalformedCredential")?;
    // 4
    let credential =
        world.credentials.iter().find(|known| known.mode == mode && known.id == id).ok_or("BadCredential")?;
    let retiring = credential.retiring.as_ref().filter(|(old, until)| *old == code && now < *until);
    let is_current = credential.code == code;
    ensure(is_current || retiring.is_some(), "BadCredential")?;
    // 5
    ensure(!credential.revoked, "Revoked")?;
    ensure(credential.enabled, "Disabled")?;
    ensure(credential.not_before.is_none_or(|from| from <= now), "NotYetValid")?;
    ensure(credential.expires_at.is_none_or(|end| end > now), "Expired")?;
    // A token does no more than what it was made from, own reason first. A parent that has a parent is none.
    let named = |named: (&str, u64)| world.credentials.iter().find(|known| (known.mode, known.id) == named);
    let parent = match credential.parent {
        None => None,
        Some(name) => Some(named(name).filter(|parent| parent.parent.is_none()).ok_or("BadCredential")?),
    };
    if let Some(parent) = parent {
        ensure(!parent.revoked, "Revoked")?;
        ensure(parent.enabled, "Disabled")?;
        ensure(parent.not_before.is_none_or(|from| from <= now), "NotYetValid")?;
        ensure(parent.expires_at.is_none_or(|end| end > now), "Expired")?;
    }
    // 6
    for limited in [Some(credential), parent].into_iter().flatten() {
        let Some(blocks) = &limited.allow_ip else { continue };
        let address = ask.address.as_deref().and_then(read_address).ok_or("IpNotAllowed")?;
        ensure(blocks.iter().any(|block| lies_in(block, &address)), "IpNotAllowed")?;
    }
    // 7
    let acting = if credential.superuser {
        wanted.or(credential.agent).ok_or("AgentRequired")?
    } else {
        ensure(wanted.is_none() || wanted == credential.agent, "AgentSwitchForbidden")?;
        credential.agent.ok_or("AgentRequired")?
    };
    if let Some(parent) = parent {
        ensure(parent.superuser || parent.agent == Some(acting), "AgentSwitchForbidden")?;
    }
    let agent = world.agents.iter().find(|agent| agent.id == acting && !agent.removed).ok_or("AgentUnknown")?;
    ensure(agent.enabled, "AgentDisabled")?;
    // 8
    let endpoint = found.transpose()?;
    // 9
    ensure(endpoint.is_none_or(|endpoint| endpoint.modes.contains(&mode)), "ModeNotAllowed")?;
    // 10 and 11
    let tags: Option<Vec<String>> = match target {
        Target::Nobody => None,
        Target::Endpoint(..) => endpoint.map(|endpoint| endpoint.tags.clone()),
        Target::Tags(tags) => Some(tags.iter().map(|tag| String::from_utf8_lossy(tag).into_owned()).collect()),
    };
    if let Some(tags) = tags {
        let (denied, granted) = judge(&credential.tags, &tags);
        ensure(!denied, "TagDenied")?;
        ensure(granted, "TagNotGranted")?;
        if let Some(parent) = parent {
            let (denied, granted) = judge(&parent.tags, &tags);
            ensure(!denied, "TagDenied")?;
            ensure(granted, "TagNotGranted")?;
        }
        let (denied, granted) = judge(&agent.permissions, &tags);
        ensure(!denied && granted, "AgentNotPermitted")?;
    }
    let deadline = if is_current { None } else { retiring.map(|(_, until)| *until) };
    let who = Who {
        mode: mode.to_string(),
        id,
        code: if is_current { "Current" } else { "Retiring" }.to_string(),
        expires_at: [credential.expires_at, deadline, parent.and_then(|p| p.expires_at)].into_iter().flatten().min(),
        app_id: credential.app_id,
        agent: agent.id,
        name: agent.name.clone(),
        attributes: agent.attributes.clone(),
        // Also from none at all.
        switched: wanted.is_some() && wanted != credential.agent,
    };
    let route = endpoint.map(|endpoint| (endpoint.template.clone(), endpoint.tags.clone()));
    Ok(Answer::Yes { who: Some(who), route })
}

fn ensure(holds: bool, reason: Reason) -> Result<(), Reason> {
    if holds { Ok(()) } else { Err(reason) }
}

/// A decimal u64 as it would be printed.
fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

fn read_credential(header: &[u8]) -> Option<(&'static str, u64, String)> {
    let header = std::str::from_utf8(header).ok()?;
    let (scheme, pair) = header.split_once(' ')?;
    let mode = ["key", "token", "session"].into_iter().find(|mode| scheme.to_ascii_lowercase() == *mode)?;
    let (id, code) = pair.trim_start_matches(' ').split_once(':')?;
    let visible = code.chars().all(|c| ('!'..='~').contains(&c));
    (visible && code.len() >= 8 && code.len() <= 128).then_some((mode, number(id.as_bytes())?, code.to_string()))
}

fn is_well_formed(target: &Target) -> bool {
    match target {
        Target::Nobody => true,
        Target::Endpoint(method, path) => is_method(method) && cut(path).len() <= 8 * 1024,
        Target::Tags(tags) => !tags.is_empty() && tags.len() <= 16 && tags.iter().all(|tag| is_tag(tag)),
    }
}

fn is_method(method: &[u8]) -> bool {
    let capital = |c: char| c.is_ascii_uppercase();
    std::str::from_utf8(method).is_ok_and(|method| {
        method.starts_with(capital) && method.len() <= 32 && method.chars().all(|c| capital(c) || c == '-')
    })
}

fn is_tag(tag: &[u8]) -> bool {
    let Ok(tag) = std::str::from_utf8(tag) else { return false };
    let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let segments: Vec<&str> = tag.split('.').collect();
    let good = |segment: &&str| segment.starts_with(first) && segment.chars().all(|c| first(c) || c == '_' || c == '-');
    tag.len() <= 128 && segments.len() <= 16 && segments.iter().all(good)
}

/// Whether a denying pattern covers a tag, and whether an allowing one does.
fn judge(patterns: &[String], tags: &[String]) -> (bool, bool) {
    let (mut denied, mut granted) = (false, false);
    for pattern in patterns {
        let (verdict, pattern) = match pattern.strip_prefix('-') {
            Some(pattern) => (&mut denied, pattern),
            None => (&mut granted, pattern.as_str()),
        };
        let pattern: Vec<&str> = pattern.split('.').collect();
        *verdict |= tags.iter().any(|tag| covers(&pattern, &tag.split('.').collect::<Vec<_>>()));
    }
    (denied, granted)
}

fn covers(pattern: &[&str], tag: &[&str]) -> bool {
    match pattern.split_first() {
        None => tag.is_empty(),
        Some((&"*", rest)) => (0..=tag.len()).any(|taken| covers(rest, &tag[taken..])),
        Some((first, rest)) => tag.first() == Some(first) && covers(rest, &tag[1..]),
    }
}

/// Up to the query string or fragment.
fn cut(path: &[u8]) -> &[u8] {
    path.split(|byte| b"?#".contains(byte)).next().unwrap_or_default()
}

fn find<'w>(world: &'w World, method: &[u8], path: &[u8]) -> Result<&'w Endpoint, Reason> {
    let path = read_path(cut(path)).ok_or("AmbiguousPath")?;
    let methods: &[&[u8]] = if method == b"HEAD" { &[b"HEAD", b"GET"] } else { &[method] };
    for method in methods {
        let live = world.endpoints.iter().filter(|known| !known.removed && known.method.as_bytes() == *method);
        let fitting = live.filter_map(|endpoint| Some((fit(&endpoint.template, &path)?, endpoint)));
        if let Some((_, best)) = fitting.min_by(|one, other| one.0.cmp(&other.0)) {
            return Ok(best);
        }
    }
    Err("NoRoute")
}

/// How a template fits a path, segment by segment; the lesser the better. `None` when it does not.
fn fit(template: &str, path: &[String]) -> Option<Vec<(u8, isize, isize)>> {
    let mut fits = Vec::new();
    let mut path = path.iter();
    for piece in template[1..].split('/') {
        let segment = path.next()?;
        if piece.ends_with("...}") {
            fits.push((2, 0, 0));
            return (!segment.is_empty()).then_some(fits);
        }
        let Some((prefix, behind)) = piece.split_once('{') else {
            fits.push((0, 0, 0));
            if piece == segment {
                continue;
            }
            return None;
        };
        let (_, suffix) = behind.split_once('}')?;
        let inner = segment.strip_prefix(prefix)?.strip_suffix(suffix)?;
        if inner.is_empty() {
            return None;
        }
        fits.push((1, -prefix.len().cast_signed(), -suffix.len().cast_signed()));
    }
    path.next().is_none().then_some(fits)
}

fn read_path(path: &[u8]) -> Option<Vec<String>> {
    let path = path.strip_prefix(b"/")?;
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let (_, before_last) = parts.split_last()?;
    if before_last.iter().any(|part| part.is_empty()) {
        return None;
    }
    parts.into_iter().map(read_segment).collect()
}

fn read_segment(raw: &[u8]) -> Option<String> {
    let mut decoded = Vec::new();
    let mut rest = raw;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte == b'%' {
            let (digits, behind) = rest.split_at_checked(2)?;
            decoded.push(hex(digits)?);
            rest = behind;
        } else {
            decoded.push(*byte);
        }
    }
    let text = String::from_utf8(decoded).ok()?;
    let odd = |c: char| c <= '\u{1f}' || ('\u{7f}'..='\u{9f}').contains(&c) || "/\\;".contains(c);
    let escaped = text.as_bytes().windows(3).any(|three| three[0] == b'%' && hex(&three[1..]).is_some());
    (text != "." && text != ".." && !text.contains(odd) && !escaped).then_some(text)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    if digits.contains('+') { None } else { u8::from_str_radix(digits, 16).ok() }
}

/// The address in binary digits: 32 of them, or 128.
fn read_address(text: &[u8]) -> Option<String> {
    match std::str::from_utf8(text).ok()?.parse().ok()? {
        IpAddr::V4(v4) => Some(format!("{:032b}", u32::from(v4))),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Some(format!("{:032b}", u32::from(v4))),
            None => Some(format!("{:0128b}", u128::from(v6))),
        },
    }
}

fn lies_in(block: &str, address: &str) -> bool {
    let (base, bits) = block.split_once('/').unwrap_or((block, "128"));
    let Some(base) = read_address(base.as_bytes()) else { return false };
    let bits = bits.parse().unwrap_or(128).min(base.len());
    base.len() == address.len() && base[..bits] == address[..bits]
}
