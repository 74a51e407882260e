//! From a request line to an endpoint.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::path::Segments;
use super::template::Segment;
use super::{JudgedPath, Method, Template};

/// Immutable map from method and path to an endpoint's place in the list that it was built from.
///
/// A tree per method, a level per segment. Children are tried in the order of section 2.3 (literal, longer prefix,
/// longer suffix, plain parameter, `{name...}`), and the first full match is the answer: two matches differ first where
/// their ways through the tree part, and there the better one was tried first. A path reaches a node by one way only, so
/// no path makes a search visit more nodes than the tree has.
#[derive(Default)]
pub struct Router {
    methods: Table<Node>,
}

/// What can follow one beginning of a path.
#[derive(Default)]
struct Node {
    literals: Table<Node>,
    affixed: BTreeMap<AffixRank, Affixes>,
    plain: Option<Box<Node>>,
    /// The endpoint of `{name...}` here.
    rest: Option<u32>,
    /// The endpoint when the path ends here.
    end: Option<u32>,
}

/// Lengths of a parameter's prefix and suffix, in the order to try them: longer prefix first, then longer suffix.
type AffixRank = Reverse<(usize, usize)>;

/// By prefix, then suffix, all of the same lengths: no segment matches two of them.
type Affixes = Table<Table<Node>>;

impl Router {
    /// Builds the router; `find` answers with an endpoint's position in `endpoints`. Of endpoints equal in method and
    /// shape the later wins: the caller keeps them by method and shape and has none.
    pub fn build<'a>(endpoints: impl IntoIterator<Item = (&'a Method, &'a Template)>) -> Router {
        let mut router = Router::default();
        for (index, (method, template)) in (0..).zip(endpoints) {
            child(&mut router.methods, method.as_str()).insert(template, index);
        }
        router
    }

    /// The endpoint for a well-formed method and a judged path. For `HEAD`, one of `GET` when no `HEAD` endpoint matches.
    pub fn find(&self, method: &[u8], path: &JudgedPath<'_>) -> Option<u32> {
        let found = self.find_exactly(method, path);
        if found.is_none() && method == b"HEAD" {
            return self.find_exactly(b"GET", path);
        }
        found
    }

    fn find_exactly(&self, method: &[u8], path: &JudgedPath<'_>) -> Option<u32> {
        self.methods.get(method)?.find(path.as_segments())
    }
}

impl Node {
    fn insert(&mut self, template: &Template, index: u32) {
        let mut node = self;
        for segment in template.segments() {
            node = match segment {
                Segment::Literal(text) => child(&mut node.literals, text),
                Segment::Parameter { prefix: "", suffix: "" } => node.plain.get_or_insert_default(),
                Segment::Parameter { prefix, suffix } => {
                    let affixes = node.affixed.entry(Reverse((prefix.len(), suffix.len()))).or_default();
                    child(child(affixes, prefix), suffix)
                }
                // Always a template's last segment.
                Segment::Rest => {
                    node.rest = Some(index);
                    return;
                }
            };
        }
        node.end = Some(index);
    }

    /// Descends one call per segment, never deeper than [`TEMPLATE_SEGMENTS_MAX`](super::TEMPLATE_SEGMENTS_MAX).
    fn find(&self, mut path: Segments<'_>) -> Option<u32> {
        let Some(segment) = path.next() else { return self.end };
        let literal = self.literals.get(segment).and_then(|next| next.find(path));
        if literal.is_some() || segment.is_empty() {
            // No parameter is empty, and what `{name...}` takes does not begin so.
            return literal;
        }
        self.find_affixed(segment, path).or_else(|| self.plain.as_ref().and_then(|next| next.find(path))).or(self.rest)
    }

    fn find_affixed(&self, segment: &[u8], path: Segments<'_>) -> Option<u32> {
        self.affixed.iter().find_map(|(Reverse((prefix, suffix)), affixes)| {
            // At least one byte is the parameter's.
            let behind_value = segment.len().checked_sub(*suffix).filter(|end| end > prefix)?;
            affixes.get(&segment[..*prefix])?.get(&segment[behind_value..])?.find(path)
        })
    }
}

type Table<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<WordHasher>>;

fn child<'t, V: Default>(table: &'t mut Table<V>, text: &str) -> &'t mut V {
    table.entry(text.as_bytes().into()).or_default()
}

/// A multiplication per eight bytes. Not resistant to chosen keys, and need not be: only who may write endpoints chooses
/// what is in a table; a question only looks up.
#[derive(Default)]
struct WordHasher(u64);

impl WordHasher {
    #[inline]
    fn add(&mut self, word: u64) {
        /// The golden ratio's bits: odd, and without a pattern.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ word) * u128::from(SPREAD);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
        let (low, high) = (product as u64, (product >> 64) as u64);
        // Folded, since in the lower half alone a word's last bytes would change nothing but the highest bits.
        self.0 = low ^ high;
    }
}

impl Hasher for WordHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        // A short rest is shifted in; zero bytes in it can't be told from none, but the length was hashed before.
        self.add(rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }

    #[inline]
    fn write_usize(&mut self, length: usize) {
        self.0 ^= length as u64;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
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

    /// The worst tree for a search: at every level a literal and two kinds of parameter match and lead nowhere.
    #[test]
    fn a_search_ends_quickly_where_everything_matches_but_the_end() {
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
        let hash = |text: &str| {
            let mut hasher = WordHasher::default();
            std::hash::Hash::hash(text.as_bytes(), &mut hasher);
            hasher.finish()
        };
        // The lowest bits choose the place in a small table, the highest seven tell its entries apart.
        let mut places: HashMap<u64, usize> = HashMap::new();
        for number in 0..1024 {
            *places.entry(hash(&format!("abcd{number:04}")) % 1024).or_default() += 1;
        }
        assert!(places.values().all(|count| *count < 16), "{places:?}");
        assert!(places.len() > 512, "{}", places.len());
    }
}
