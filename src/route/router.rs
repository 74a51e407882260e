//! From a request line to an endpoint.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;

use super::path::{HEAD_BYTES, SegmentText, Segments};
use super::template::Segment;
use super::{JudgedPath, Method, Template};

/// Immutable map from method and path to an endpoint's place in the list that it was built from.
///
/// A tree per method, a level per segment. Children are tried in the order of section 2.3 (literal, longer prefix,
/// longer suffix, plain parameter, `{name...}`), and the first full match is the answer: two matches differ first where
/// their ways through the tree part, and there the better one was tried first. A path reaches a node by one way only,
/// so no path makes a search visit more nodes than the tree has.
#[derive(Default)]
pub struct Router {
    nodes: Vec<Node>,
    edges: Edges,
}

/// A node's place in [`Router::nodes`].
type NodeIndex = u32;

/// Its literal children are the trees of the methods.
const ROOT: NodeIndex = 0;

/// What can follow one beginning of a path, but for the literals, which [`Edges`] has for all nodes.
#[derive(Default)]
struct Node {
    #[expect(clippy::box_collection, reason = "few nodes have any; so two nodes fit a cache line")]
    affixed: Option<Box<BTreeMap<AffixRank, Affixes>>>,
    /// Never the root.
    plain: Option<NonZero<NodeIndex>>,
    /// The endpoint of `{name...}` here.
    rest: EndpointIndex,
    /// The endpoint when the path ends here.
    end: EndpointIndex,
    has_literals: bool,
}

/// An endpoint's place in the list that the router was built from, or none.
#[derive(Clone, Copy, Default)]
struct EndpointIndex(Option<NonZero<u32>>);

impl EndpointIndex {
    fn new(index: u32) -> Self {
        Self(NonZero::new(index + 1))
    }

    fn get(self) -> Option<u32> {
        self.0.map(|one_more| one_more.get() - 1)
    }
}

/// Lengths of a parameter's prefix and suffix, in the order to try them: longer prefix first, then longer suffix.
type AffixRank = Reverse<(usize, usize)>;

/// By prefix, then suffix, all of the same lengths: no segment matches two of them.
type Affixes = HashMap<Box<[u8]>, HashMap<Box<[u8]>, NodeIndex>>;

impl Node {
    fn has_only_literals(&self) -> bool {
        self.plain.is_none() && self.rest.0.is_none() && self.affixed.is_none()
    }
}

impl Router {
    /// Builds the router; `find` answers with an endpoint's position in `endpoints`. Of endpoints equal in method and
    /// shape the later wins: the caller keeps them by method and shape and has none.
    pub fn build<'a>(endpoints: impl IntoIterator<Item = (&'a Method, &'a Template)>) -> Router {
        let mut nodes = vec![Node::default()];
        let mut literals = Literals::new();
        for (index, (method, template)) in (0..).zip(endpoints) {
            let tree = literal_child(&mut nodes, &mut literals, ROOT, method.as_str());
            insert(&mut nodes, &mut literals, tree, template, index);
        }
        Router { nodes, edges: Edges::new(literals) }
    }

    /// The endpoint for a well-formed method and a judged path. For `HEAD`, one of `GET` when no `HEAD` one matches.
    pub fn find(&self, method: &[u8], path: &JudgedPath<'_>) -> Option<u32> {
        let found = self.find_exactly(method, path);
        if found.is_none() && method == b"HEAD" {
            return self.find_exactly(b"GET", path);
        }
        found
    }

    fn find_exactly(&self, method: &[u8], path: &JudgedPath<'_>) -> Option<u32> {
        self.find_below(self.edges.get(ROOT, SegmentText::new(method))?, path.as_segments())
    }

    /// Goes down a segment at a time, and calls itself only where there is more than one way on: never deeper than
    /// [`TEMPLATE_SEGMENTS_MAX`](super::TEMPLATE_SEGMENTS_MAX).
    fn find_below(&self, mut node: NodeIndex, mut path: Segments<'_>) -> Option<u32> {
        loop {
            let here = &self.nodes[node as usize];
            let Some(segment) = path.next_text() else { return here.end.get() };
            let literal = if here.has_literals { self.edges.get(node, segment) } else { None };
            if segment.bytes.is_empty() || here.has_only_literals() {
                // No parameter is empty, and what `{name...}` takes does not begin so.
                node = literal?;
                continue;
            }
            let found = literal
                .and_then(|next| self.find_below(next, path))
                .or_else(|| self.find_affixed(here, segment.bytes, path));
            match here.plain {
                Some(plain) if found.is_none() && here.rest.0.is_none() => node = plain.get(),
                Some(plain) => return found.or_else(|| self.find_below(plain.get(), path)).or(here.rest.get()),
                None => return found.or(here.rest.get()),
            }
        }
    }

    fn find_affixed(&self, here: &Node, segment: &[u8], path: Segments<'_>) -> Option<u32> {
        here.affixed.as_ref()?.iter().find_map(|(Reverse((prefix, suffix)), affixes)| {
            // At least one byte is the parameter's.
            let behind_value = segment.len().checked_sub(*suffix).filter(|end| end > prefix)?;
            let next = affixes.get(&segment[..*prefix])?.get(&segment[behind_value..])?;
            self.find_below(*next, path)
        })
    }
}

/// Literal edges while they are gathered: from a node by a text to a node.
type Literals = HashMap<(NodeIndex, Box<[u8]>), NodeIndex>;

fn insert(nodes: &mut Vec<Node>, literals: &mut Literals, tree: NodeIndex, template: &Template, index: u32) {
    let mut node = tree;
    for segment in template.segments() {
        node = match segment {
            Segment::Literal(text) => literal_child(nodes, literals, node, text),
            Segment::Parameter { prefix: "", suffix: "" } => match nodes[node as usize].plain {
                Some(child) => child.get(),
                None => {
                    let child = new_node(nodes);
                    nodes[node as usize].plain = NonZero::new(child);
                    child
                }
            },
            Segment::Parameter { prefix, suffix } => affixed_child(nodes, node, prefix, suffix),
            // Always a template's last segment.
            Segment::Rest => {
                nodes[node as usize].rest = EndpointIndex::new(index);
                return;
            }
        };
    }
    nodes[node as usize].end = EndpointIndex::new(index);
}

fn new_node(nodes: &mut Vec<Node>) -> NodeIndex {
    nodes.push(Node::default());
    NodeIndex::try_from(nodes.len() - 1).expect("templates of 2^32 segments do not fit in memory")
}

fn literal_child(nodes: &mut Vec<Node>, literals: &mut Literals, node: NodeIndex, text: &str) -> NodeIndex {
    nodes[node as usize].has_literals = true;
    *literals.entry((node, text.as_bytes().into())).or_insert_with(|| new_node(nodes))
}

fn affixed_child(nodes: &mut Vec<Node>, node: NodeIndex, prefix: &str, suffix: &str) -> NodeIndex {
    let rank = Reverse((prefix.len(), suffix.len()));
    let (prefix, suffix): (Box<[u8]>, Box<[u8]>) = (prefix.as_bytes().into(), suffix.as_bytes().into());
    let affixed = nodes[node as usize].affixed.as_ref();
    let known = affixed.and_then(|ranks| ranks.get(&rank)?.get(&prefix)?.get(&suffix).copied());
    known.unwrap_or_else(|| {
        let child = new_node(nodes);
        let affixed = nodes[node as usize].affixed.get_or_insert_default();
        affixed.entry(rank).or_default().entry(prefix).or_default().insert(suffix, child);
        child
    })
}

/// The literal edges of all nodes in one table with open addressing. Most segments are told apart by their first sixteen
/// bytes and their length, which lie in the table: a look-up touches one or two cache lines.
#[derive(Default)]
struct Edges {
    /// A power of two, at least a quarter of it free, so that every search ends.
    slots: Box<[Option<Edge>]>,
    /// What is behind the first sixteen bytes of longer texts.
    tails: Box<[u8]>,
}

#[derive(Clone, Copy)]
struct Edge {
    from: NodeIndex,
    /// Never the root.
    to: NonZero<NodeIndex>,
    head: u128,
    /// Of the whole text.
    bytes: u32,
    tail_start: u32,
}

impl Edges {
    fn new(literals: Literals) -> Self {
        let slots = (literals.len() * 4 / 3 + 1).next_power_of_two();
        let mut edges = Self { slots: vec![None; slots].into(), tails: Box::default() };
        let mut tails = Vec::new();
        let short = |length: usize| u32::try_from(length).expect("4 GiB of templates do not come in");
        for ((from, text), to) in literals {
            let text = SegmentText::new(&text);
            let to = NonZero::new(to).expect("no edge leads to the root");
            let (bytes, tail_start) = (short(text.bytes.len()), short(tails.len()));
            tails.extend_from_slice(text.bytes.get(HEAD_BYTES..).unwrap_or_default());
            let free = edges.probe(from, text).find(|slot| edges.slots[*slot].is_none());
            let free = free.expect("a quarter of the slots is free");
            edges.slots[free] = Some(Edge { from, to, head: text.head, bytes, tail_start });
        }
        edges.tails = tails.into();
        edges
    }

    /// The slots to look at for an edge, in order.
    #[inline]
    fn probe(&self, from: NodeIndex, text: SegmentText<'_>) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len().wrapping_sub(1);
        #[expect(clippy::cast_possible_truncation, reason = "the mask keeps the lower bits only")]
        let first = hash(from, text) as usize;
        (0..=mask).map(move |step| first.wrapping_add(step) & mask)
    }

    #[inline]
    fn get(&self, from: NodeIndex, text: SegmentText<'_>) -> Option<NodeIndex> {
        for slot in self.probe(from, text) {
            let edge = self.slots.get(slot)?.as_ref()?;
            if edge.from == from
                && edge.head == text.head
                && edge.bytes as usize == text.bytes.len()
                && (text.bytes.len() <= HEAD_BYTES || self.tail(edge) == &text.bytes[HEAD_BYTES..])
            {
                return Some(edge.to.get());
            }
        }
        None
    }

    fn tail(&self, edge: &Edge) -> &[u8] {
        let start = edge.tail_start as usize;
        &self.tails[start..start + edge.bytes as usize - HEAD_BYTES]
    }
}

/// A multiplication per eight bytes. Not resistant to chosen keys, and need not be: only who may write endpoints
/// chooses what is in the table; a question only looks up.
#[inline]
fn hash(from: NodeIndex, text: SegmentText<'_>) -> u64 {
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let (low, high) = (text.head as u64, (text.head >> 64) as u64);
    let begin = mix(low ^ u64::from(from) << 32 ^ text.bytes.len() as u64);
    let begin = if high == 0 { begin } else { mix(begin ^ high) };
    let Some(last) = text.bytes.get(HEAD_BYTES..).and(text.bytes.last_chunk()) else {
        return begin;
    };
    // The last word may overlap the one before it.
    let between = text.bytes[HEAD_BYTES..].as_chunks().0;
    let hash = between.iter().fold(begin, |hash, word| mix(hash ^ u64::from_le_bytes(*word)));
    mix(hash ^ u64::from_le_bytes(*last))
}

fn mix(word: u64) -> u64 {
    /// The golden ratio's bits: odd, and without a pattern.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let product = u128::from(word) * u128::from(SPREAD);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    // Folded, since in the lower half alone a word's last bytes would change nothing but the highest bits.
    low ^ high
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn router(endpoints: &[(&str, &str)]) -> Router {
        let parsed: Vec<_> = endpoints
            .iter()
            .map(|(method, template)| (Method::parse(method).unwrap(), Template::parse(template).unwrap()))
            .collect();
        Router::build(parsed.iter().map(|(method, template)| (method, template)))
    }

    fn found<'e>(router: &Router, endpoints: &[(&str, &'e str)], method: &str, path: &str) -> Option<&'e str> {
        let path = JudgedPath::judge(path.as_bytes()).unwrap();
        router.find(method.as_bytes(), &path).map(|index| endpoints[index as usize].1)
    }

    /// Builds a router of GET endpoints, in the order given and backwards, and asks for each path.
    fn assert_routes(templates: &[&str], routes: &[(&str, Option<&str>)]) {
        let mut endpoints: Vec<_> = templates.iter().map(|template| ("GET", *template)).collect();
        for _ in 0..2 {
            let router = router(&endpoints);
            for (path, expected) in routes {
                assert_eq!(found(&router, &endpoints, "GET", path), *expected, "{path} among {endpoints:?}");
            }
            endpoints.reverse();
        }
    }

    #[test]
    fn a_template_takes_its_paths_and_no_others() {
        assert_routes(
            &["/api/v2/tickets", "/api/v2/tickets/{id}", "/api/v2/tickets/{id}/messages", "/api/v2/blobs/{path...}"],
            &[
                ("/api/v2/tickets", Some("/api/v2/tickets")),
                ("/api/v2/tick%65ts?x=1", Some("/api/v2/tickets")),
                ("/api/v2/Tickets", None),
                ("/api/v2/tickets/", None),
                ("/api/v2/tickets/9", Some("/api/v2/tickets/{id}")),
                ("/api/v2/tickets/9/", None),
                ("/api/v2/tickets/9/messages", Some("/api/v2/tickets/{id}/messages")),
                ("/api/v2/tickets/9/messages/1", None),
                ("/api/v2", None),
                ("/", None),
                ("/api/v2/blobs", None),
                ("/api/v2/blobs/", None),
                ("/api/v2/blobs/a", Some("/api/v2/blobs/{path...}")),
                ("/api/v2/blobs/a/", Some("/api/v2/blobs/{path...}")),
                ("/api/v2/blobs/a/b/c", Some("/api/v2/blobs/{path...}")),
            ],
        );
    }

    #[test]
    fn a_trailing_slash_is_another_path() {
        assert_routes(
            &["/", "/a", "/a/", "/{x}/b/", "/{x}"],
            &[
                ("/", Some("/")),
                ("/a", Some("/a")),
                ("/a/", Some("/a/")),
                ("/c", Some("/{x}")),
                ("/c/", None),
                ("/c/b", None),
                ("/c/b/", Some("/{x}/b/")),
            ],
        );
    }

    #[test]
    fn a_parameter_is_never_empty() {
        assert_routes(
            &["/e/{name}.csv", "/e/all-{name}", "/e/a{x}a", "/t/{id}", "/t/{id}/x", "/b/{rest...}"],
            &[
                ("/e/.csv", None),
                ("/e/all-", None),
                ("/e/x.csv", Some("/e/{name}.csv")),
                ("/e/all-x", Some("/e/all-{name}")),
                ("/e/a", None),
                ("/e/aa", None),
                ("/e/aaa", Some("/e/a{x}a")),
                ("/e/aéa", Some("/e/a{x}a")),
                ("/t/", None),
                ("/b/", None),
            ],
        );
        assert_routes(&["/{rest...}"], &[("/", None), ("/a", Some("/{rest...}"))]);
    }

    #[test]
    fn the_first_difference_from_the_left_decides() {
        assert_routes(
            &[
                "/e/all.csv",
                "/e/all-{x}.csv",
                "/e/all-{x}",
                "/e/a{x}.csv",
                "/e/a{x}",
                "/e/{x}l.csv",
                "/e/{x}.csv",
                "/e/{x}",
                "/e/{x...}",
            ],
            &[
                ("/e/all.csv", Some("/e/all.csv")),
                ("/e/all-x.csv", Some("/e/all-{x}.csv")),
                ("/e/all-x.txt", Some("/e/all-{x}")),
                ("/e/all-.csv", Some("/e/all-{x}")),
                ("/e/al.csv", Some("/e/a{x}.csv")),
                ("/e/a.csv", Some("/e/a{x}")),
                ("/e/ball.csv", Some("/e/{x}l.csv")),
                ("/e/b.csv", Some("/e/{x}.csv")),
                ("/e/.csv", Some("/e/{x}")),
                ("/e/x", Some("/e/{x}")),
                ("/e/x/y", Some("/e/{x...}")),
                ("/e/all.csv/", Some("/e/{x...}")),
                ("/e/", None),
            ],
        );
        assert_routes(
            &["/{a}/b/c", "/a/{b}/c", "/a{a}/b/{c}", "/a/{rest...}"],
            &[
                ("/a/b/c", Some("/a/{b}/c")),
                ("/a/b/d", Some("/a/{rest...}")),
                ("/ax/b/c", Some("/a{a}/b/{c}")),
                ("/x/b/c", Some("/{a}/b/c")),
                ("/x/b/d", None),
            ],
        );
    }

    #[test]
    fn a_better_beginning_that_leads_nowhere_is_given_up() {
        assert_routes(
            &["/a/b/c/d", "/a/b{x}/c/e", "/a/{x}/c/f", "/{x}/b/c/g", "/{x...}"],
            &[
                ("/a/b/c/d", Some("/a/b/c/d")),
                ("/a/bb/c/e", Some("/a/b{x}/c/e")),
                ("/a/b/c/e", Some("/{x...}")),
                ("/a/bb/c/f", Some("/a/{x}/c/f")),
                ("/a/b/c/g", Some("/{x}/b/c/g")),
                ("/a/b/c/h", Some("/{x...}")),
            ],
        );
    }

    #[test]
    fn a_head_request_takes_get_only_where_no_head_endpoint_matches() {
        let endpoints = [("GET", "/a"), ("HEAD", "/{x}"), ("GET", "/b/c"), ("POST", "/d"), ("OPTIONS", "/{rest...}")];
        let router = router(&endpoints);
        let table = [
            ("HEAD", "/a", Some("/{x}")),
            ("GET", "/a", Some("/a")),
            ("HEAD", "/b/c", Some("/b/c")),
            ("HEAD", "/d", Some("/{x}")),
            ("GET", "/d", None),
            ("POST", "/d", Some("/d")),
            ("POST", "/a", None),
            ("OPTIONS", "/a/b", Some("/{rest...}")),
            ("PUT", "/a", None),
        ];
        for (method, path, expected) in table {
            assert_eq!(found(&router, &endpoints, method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn of_endpoints_that_differ_only_in_parameter_names_the_later_wins() {
        let endpoints = [("GET", "/a/{x}"), ("GET", "/a/{y}"), ("GET", "/b/{x...}"), ("GET", "/b/{y...}")];
        let router = router(&endpoints);
        assert_eq!(found(&router, &endpoints, "GET", "/a/1"), Some("/a/{y}"));
        assert_eq!(found(&router, &endpoints, "GET", "/b/1"), Some("/b/{y...}"));
    }

    #[test]
    fn an_empty_router_finds_nothing() {
        let router = Router::default();
        assert_eq!(found(&router, &[], "GET", "/"), None);
        assert_eq!(found(&router, &[], "HEAD", "/a"), None);
    }

    /// The worst tree for a search: at every level a literal and a parameter match, and all 4096 ways lead nowhere.
    #[test]
    fn a_search_ends_where_everything_matches_but_the_end() {
        let depth = 12;
        let mut templates = vec![String::new()];
        for _ in 0..depth {
            templates = templates
                .iter()
                .flat_map(|beginning| ["/aa", "/{x}"].map(|segment| format!("{beginning}{segment}")))
                .collect();
        }
        let endpoints: Vec<_> = templates.iter().map(|template| ("GET", template.as_str())).collect();
        let router = router(&endpoints);
        assert_eq!(found(&router, &endpoints, "GET", &"/aa".repeat(depth)), Some("/aa".repeat(depth).as_str()));
        for path in ["/aa".repeat(depth) + "/no", "/aa".repeat(4096)] {
            assert_eq!(found(&router, &endpoints, "GET", &path), None);
        }
    }

    #[test]
    fn the_hash_tells_texts_apart_that_differ_in_one_place() {
        // The lowest bits choose the place.
        let mut places: HashMap<u64, usize> = HashMap::new();
        for number in 0..1024 {
            *places.entry(hash(7, SegmentText::new(format!("abcd{number:04}").as_bytes())) % 1024).or_default() += 1;
        }
        assert!(places.values().all(|count| *count < 16), "{places:?}");
        assert!(places.len() > 512, "{}", places.len());
    }
}
