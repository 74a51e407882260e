//! From a request line to an endpoint.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;

use super::edges::{Edges, Literals};
use super::segments::{LANES, SegmentText, Segments};
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
    /// Those with the most endpoints first.
    trees: Vec<Tree>,
    /// The first one is in no tree, so that no child is at 0.
    nodes: Vec<Node>,
    edges: Edges,
}

/// A node's place in [`Router::nodes`].
pub(super) type NodeIndex = u32;

/// The endpoints of a method.
struct Tree {
    method: Box<[u8]>,
    /// How all of their paths begin, up to a slash; shorter than the lanes of a path.
    prefix: Box<[u8]>,
    /// What can follow that.
    node: NodeIndex,
}

/// What can follow one beginning of a path, but for the literals, which [`Edges`] has for all nodes.
#[derive(Default)]
struct Node {
    #[expect(clippy::box_collection, reason = "few nodes have any; so two nodes fit a cache line")]
    affixed: Option<Box<BTreeMap<AffixRank, Affixes>>>,
    plain: Option<NonZero<NodeIndex>>,
    /// The endpoint of `{name...}` here.
    rest: EndpointIndex,
    /// The endpoint when the path ends here.
    end: EndpointIndex,
    has_literals: bool,
    ways: Ways,
}

/// The ways on from a node, as they are told apart while going down.
#[derive(Clone, Copy, Default)]
enum Ways {
    /// Literals, or none.
    #[default]
    Literals,
    /// A plain parameter.
    Plain,
    /// More than one kind.
    Several,
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
    fn ways(&self) -> Ways {
        if self.rest.0.is_some() || self.affixed.is_some() {
            return Ways::Several;
        }
        match (self.plain, self.has_literals) {
            (None, _) => Ways::Literals,
            (Some(_), false) => Ways::Plain,
            (Some(_), true) => Ways::Several,
        }
    }
}

impl Router {
    /// Builds the router; `find` answers with an endpoint's position in `endpoints`. Of endpoints equal in method and
    /// shape the later wins: the caller keeps them by method and shape and has none.
    pub fn build<'a>(endpoints: impl IntoIterator<Item = (&'a Method, &'a Template)>) -> Router {
        let mut nodes = vec![Node::default()];
        let mut literals = Literals::new();
        let mut roots: BTreeMap<&Method, (NodeIndex, usize)> = BTreeMap::new();
        for (index, (method, template)) in (0..).zip(endpoints) {
            let (root, count) = roots.entry(method).or_insert_with(|| (new_node(&mut nodes), 0));
            *count += 1;
            insert(&mut nodes, &mut literals, *root, template, index);
        }
        nodes.iter_mut().for_each(|node| node.ways = node.ways());
        let mut roots: Vec<_> = roots.into_iter().collect();
        roots.sort_by_key(|(_, (_, count))| Reverse(*count));
        let trees = trees(roots.into_iter().map(|(method, (root, _))| (method, root)), &nodes, &literals);
        Router { trees, nodes, edges: Edges::new(literals) }
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
        let tree = self.trees.iter().find(|tree| *tree.method == *method)?;
        self.find_below(tree.node, path.segments_behind(&tree.prefix)?)
    }

    /// Goes down a segment at a time as long as there is one way on.
    fn find_below(&self, mut node: NodeIndex, mut path: Segments<'_>) -> Option<u32> {
        loop {
            let here = &self.nodes[node as usize];
            let Some(segment) = path.next_text() else { return here.end.get() };
            node = match here.ways {
                Ways::Literals => self.edges.get(node, segment)?,
                // No parameter is empty.
                Ways::Plain => here.plain.filter(|_| !segment.bytes.is_empty())?.get(),
                Ways::Several => return self.find_among(node, segment, path),
            };
        }
    }

    /// Tries one way on after the other: never deeper than [`TEMPLATE_SEGMENTS_MAX`](super::TEMPLATE_SEGMENTS_MAX).
    #[inline(never)]
    fn find_among(&self, node: NodeIndex, segment: SegmentText<'_>, path: Segments<'_>) -> Option<u32> {
        let here = &self.nodes[node as usize];
        let literal = || self.find_below(self.edges.get(node, segment)?, path);
        if segment.bytes.is_empty() {
            // No parameter is empty, and what `{name...}` takes does not begin so.
            return literal();
        }
        literal()
            .or_else(|| self.find_affixed(here, segment.bytes, path))
            .or_else(|| self.find_below(here.plain?.get(), path))
            .or(here.rest.get())
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

/// The trees with these roots, each from the first node on at which paths part.
fn trees<'a>(roots: impl Iterator<Item = (&'a Method, NodeIndex)>, nodes: &[Node], literals: &Literals) -> Vec<Tree> {
    // `None` where there are several.
    let mut only: HashMap<NodeIndex, Option<(&[u8], NodeIndex)>> = HashMap::new();
    for ((from, text), to) in literals {
        only.entry(*from).and_modify(|only| *only = None).or_insert(Some((text, *to)));
    }
    let tree = |(method, mut node): (&Method, NodeIndex)| {
        let mut prefix = Vec::new();
        while let Some(Some((text, next))) = only.get(&node)
            && matches!(nodes[node as usize].ways, Ways::Literals)
            // No path ends there.
            && nodes[*next as usize].end.0.is_none()
            && prefix.len() + text.len() + 1 < LANES
        {
            prefix.extend_from_slice(text);
            prefix.push(b'/');
            node = *next;
        }
        Tree { method: method.as_str().as_bytes().into(), prefix: prefix.into(), node }
    };
    roots.map(tree).collect()
}

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
    fn what_all_paths_of_a_method_begin_with_is_asked_for_like_any_other_part() {
        assert_routes(
            &["/api/v2/a", "/api/v2/{x}/b", "/api/v2/"],
            &[
                ("/api/v2/a", Some("/api/v2/a")),
                ("/api/v2/c/b", Some("/api/v2/{x}/b")),
                ("/api/v2/", Some("/api/v2/")),
                ("/api/v2", None),
                ("/api/", None),
                ("/api", None),
                ("/", None),
                ("/api/v3/a", None),
                ("/apiv2/a", None),
                ("/a", None),
            ],
        );
        assert_routes(
            &["/api/v2/a", "/api/v2", "/api/v2/b"],
            &[("/api/v2", Some("/api/v2")), ("/api/v2/a", Some("/api/v2/a")), ("/api/v2/", None), ("/api", None)],
        );
        assert_routes(
            &["/api/v2/{rest...}"],
            &[("/api/v2", None), ("/api/v2/", None), ("/api/v2/a/b", Some("/api/v2/{rest...}"))],
        );
        assert_routes(&["/a/b"], &[("/a/b", Some("/a/b")), ("/a/b/", None), ("/a", None), ("/a/", None)]);
        let long = format!("/{}/{}/c/d", "a".repeat(LANES - 4), "b".repeat(LANES));
        assert_routes(&[&long], &[(&long, Some(&long)), (long.trim_end_matches("/d"), None)]);
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
}
