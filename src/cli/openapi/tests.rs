use proptest::prelude::*;

use super::*;

fn yaml(text: &str) -> Imported {
    read(text.as_bytes(), Syntax::Yaml).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A description with these fields and paths.
fn description(fields: &str, paths: &str) -> Imported {
    yaml(&format!("openapi: 3.1.0\ninfo: {{title: x, version: '1'}}\n{fields}\npaths:\n{paths}"))
}

fn lines(imported: &Imported) -> Vec<String> {
    let said = |said: &Said<Vec<String>>| match said {
        Said::Outright(value) => format!("!{}", value.join(",")),
        Said::Derived(value) => value.join(","),
    };
    let line = |e: &Endpoint| format!("{} {} {} {}", e.method, e.template.as_str(), said(&e.tags), said(&e.modes));
    imported.endpoints.iter().map(line).collect()
}

const ALL: &str = "key,token,session";

#[test]
fn every_method_of_a_path_is_an_endpoint_and_everything_else_is_passed_over() {
    let paths = "
  /a:
    summary: x
    x-anything: [1]
    trace: {}
    patch: {operationId: y, requestBody: {content: {}}}
    head: {}
    options: {}
    delete: {}
    post: {}
    put: {}
    get: {}
  x-extension: {anything: goes}";
    let methods: Vec<_> = description("", paths).endpoints.iter().map(|e| e.method).collect();
    assert_eq!(methods, ["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"]);
}

#[test]
fn the_nearest_list_of_servers_gives_the_base_path() {
    let paths = "
  /a: {get: {}, post: {servers: [{url: /op}]}}
  /b: {servers: [{url: /item}], get: {}, post: {servers: [{url: /op}]}, put: {servers: []}}";
    let imported =
        description("servers: [{url: 'https://x/api/v2'}, {url: /other}, {url: 'https://y/api/v2/'}]", paths);
    assert_eq!(
        lines(&imported),
        [
            format!("GET /api/v2/a a.a.get {ALL}"),
            format!("POST /op/a a.a.post {ALL}"),
            format!("GET /item/b b.b.get {ALL}"),
            format!("PUT /b b.b.put {ALL}"),
            format!("POST /op/b b.b.post {ALL}"),
        ]
    );
    let notes: Vec<_> = imported.notes.iter().collect();
    assert_eq!(notes, ["servers name several base paths: /api/v2 is used, /other is not"]);
}

#[test]
fn modes_come_from_the_extension_else_from_security() {
    let components = "
components:
  securitySchemes:
    Token: {type: http, scheme: bearer}
    cookie: {type: apiKey, x-keyward-mode: session}
    both: {type: http, x-keyward-mode: [key, token]}
    other: {type: oauth2}
    wrong: {x-keyward-mode: keys}
    open: {x-keyward-mode: public}";
    for (security, wanted) in [
        ("", ALL),
        ("security: []", "public"),
        ("security: [{}]", "public"),
        ("security: [{cookie: []}, {}]", "public"),
        ("security: [{cookie: []}]", "session"),
        ("security: [{Token: []}]", "token"),
        ("security: [{cookie: []}, {Token: []}]", "token,session"),
        ("security: [{both: []}]", "key,token"),
        ("security: [{other: [a, b]}]", ALL),
        ("security: [{undefined: []}]", ALL),
        ("security: [{key: []}]", "key"),
        ("x-keyward-modes: session", "!session"),
        ("x-keyward-modes: 'token, key'\n      security: []", "!key,token"),
        ("x-keyward-modes: [public]", "!public"),
    ] {
        let imported = description(components, &format!("\n  /a:\n    get:\n      summary: x\n      {security}"));
        assert_eq!(lines(&imported), [format!("GET /a a.a.get {wanted}")], "{security}");
        let global = description(
            &format!("security: []{components}"),
            &format!("\n  /a:\n    get:\n      summary: x\n      {security}"),
        );
        let wanted = if security.is_empty() { "public" } else { wanted };
        assert_eq!(lines(&global), [format!("GET /a a.a.get {wanted}")], "{security} beside a global one");
    }
    for (security, why) in [
        ("x-keyward-modes: []", "x-keyward-modes: give key"),
        ("x-keyward-modes: [public, key]", "or public alone"),
        ("x-keyward-modes: keys", "not \"keys\""),
        ("security: [{wrong: []}]", "x-keyward-mode: give key"),
        ("security: [{open: []}]", "can't be public"),
    ] {
        let imported = description(components, &format!("\n  /a:\n    get:\n      summary: x\n      {security}"));
        assert!(imported.endpoints.is_empty() && imported.refused[0].why.contains(why), "{:?}", imported.refused);
    }
}

#[test]
fn tags_are_taken_as_written_or_refused() {
    for (tags, wanted) in [
        ("a.b", Ok("!a.b")),
        ("'a.b, c.d'", Ok("!a.b,c.d")),
        ("[a.b, c.d, a.b]", Ok("!a.b,c.d")),
        ("[]", Err("0 tags are given")),
        ("''", Err("x-keyward-tags: \"\"")),
        ("[A.b]", Err("x-keyward-tags: \"A.b\"")),
        ("['a.*']", Err("x-keyward-tags: \"a.*\"")),
        ("[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q]", Err("17 tags are given")),
    ] {
        let imported = description("", &format!("\n  /x: {{get: {{x-keyward-tags: {tags}}}}}"));
        match wanted {
            Ok(tags) => assert_eq!(lines(&imported), [format!("GET /x {tags} {ALL}")]),
            Err(why) => assert!(imported.refused[0].why.contains(why), "{:?}", imported.refused),
        }
    }
}

#[test]
fn a_list_is_told_by_its_items_path_or_by_its_response() {
    let fields = "
components:
  schemas:
    Ticket: {type: object, properties: {type: {type: array}}}
    Tickets: {type: array, items: {$ref: '#/components/schemas/Ticket'}}
    Again: {$ref: '#/components/schemas/Tickets'}
    Ring: {$ref: '#/components/schemas/Ring'}
    True: true
  responses:
    all: {content: {application/json: {schema: {$ref: '#/components/schemas/Again'}}}}";
    let schema =
        |schema: &str| format!("responses: {{'200': {{content: {{application/json: {{schema: {schema}}}}}}}}}");
    for (responses, wanted) in [
        (String::new(), "get"),
        (schema("{type: array}"), "list"),
        (schema("{type: [array, 'null']}"), "list"),
        (schema("{type: object}"), "get"),
        (schema("{$ref: '#/components/schemas/Tickets'}"), "list"),
        (schema("{$ref: '#/components/schemas/Again'}"), "list"),
        (schema("{$ref: '#/components/schemas/Ticket'}"), "get"),
        (schema("{$ref: '#/components/schemas/Ring'}"), "get"),
        (schema("{$ref: '#/components/schemas/Nowhere'}"), "get"),
        (schema("{$ref: 'https://example.com/x'}"), "get"),
        (schema("true"), "get"),
        ("responses: {200: {$ref: '#/components/responses/all'}}".to_owned(), "list"),
        ("responses: {2XX: {$ref: '#/components/responses/all'}}".to_owned(), "list"),
        ("responses: {404: {$ref: '#/components/responses/all'}}".to_owned(), "get"),
        ("responses: {200: {$ref: '#/components/responses/none'}}".to_owned(), "get"),
    ] {
        let imported = description(fields, &format!("\n  /t: {{get: {{{responses}}}}}"));
        assert_eq!(lines(&imported), [format!("GET /t t.t.{wanted} {ALL}")], "{responses}");
        let imported = description(fields, &format!("\n  /t: {{get: {{{responses}}}}}\n  /t/{{id}}: {{delete: {{}}}}"));
        assert_eq!(lines(&imported)[0], format!("GET /t t.t.list {ALL}"), "{responses}");
    }
}

#[test]
fn a_parameter_with_slashes_takes_the_rest_only_at_the_end() {
    let fields = "
components:
  parameters:
    wide: {name: p, in: path, x-multi-segment: true}
    ring: {$ref: '#/components/parameters/ring'}";
    for (path, parameters, wanted) in [
        ("/f/{p}", "[{name: p, in: path, x-keyward-multi-segment: true}]", "/f/{p...}"),
        ("/f/{p}", "[{name: p, in: path, x-multi-segment: true}]", "/f/{p...}"),
        ("/f/{p}", "[{name: p, in: path, x-multi-segment: true, x-keyward-multi-segment: false}]", "/f/{p}"),
        ("/f/{p}", "[{$ref: '#/components/parameters/wide'}]", "/f/{p...}"),
        ("/f/{p}", "[{name: p, in: query, x-multi-segment: true}]", "/f/{p}"),
        ("/f/{p}", "[{name: q, in: path, x-multi-segment: true}]", "/f/{p}"),
        ("/f/{p}", "[]", "/f/{p}"),
        ("/f/{p}/raw", "[{$ref: '#/components/parameters/wide'}]", "/f/{p}/raw"),
        ("/f/{p}", "[{$ref: '#/components/parameters/ring'}]", "/f/{p}"),
    ] {
        for text in [
            format!("\n  {path}: {{get: {{x-keyward-tags: f, parameters: {parameters}}}}}"),
            format!("\n  {path}: {{parameters: {parameters}, get: {{x-keyward-tags: f}}}}"),
        ] {
            let imported = description(fields, &text);
            assert_eq!(lines(&imported), [format!("GET {wanted} !f {ALL}")], "{text}");
        }
    }
    let own =
        "\n  /f/{p}: {parameters: [{$ref: '#/components/parameters/wide'}], get: {parameters: [{name: p, in: path}]}}";
    assert_eq!(lines(&description(fields, own)), [format!("GET /f/{{p}} f.f.get {ALL}")]);
    let noted = description(fields, "\n  /f/{p}/raw: {parameters: [{$ref: '#/components/parameters/wide'}], get: {}}");
    assert!(noted.notes.iter().any(|note| note.contains("takes one segment")), "{:?}", noted.notes);
    let noted = description(fields, "\n  /f/{p}: {parameters: [{$ref: 'other.yaml#/p'}], get: {}}");
    assert!(noted.notes.iter().any(|note| note.contains("leads nowhere")), "{:?}", noted.notes);
}

#[test]
fn what_can_not_be_an_endpoint_is_refused_by_itself() {
    let imported = description(
        "",
        "
  /compare/{base}...{head}: {get: {}}
  /a/{x}: {get: {}}
  /a/{y}: {get: {}, put: {}}
  /elsewhere: {$ref: 'other.yaml#/item'}
  no-slash: {get: {}}",
    );
    assert_eq!(lines(&imported), [format!("GET /a/{{x}} a.a.get {ALL}"), format!("PUT /a/{{y}} a.a.put {ALL}")]);
    let refused: Vec<_> = imported.refused.iter().map(|r| (r.method.as_str(), r.path.as_str())).collect();
    assert_eq!(
        refused,
        [("GET", "/compare/{base}...{head}"), ("GET", "/a/{y}"), ("*", "/elsewhere"), ("GET", "no-slash")]
    );
    assert!(imported.refused[1].why.contains("the same endpoint as GET /a/{x}"), "{:?}", imported.refused[1]);
}

#[test]
fn a_path_item_may_be_shared_by_reference() {
    let fields = "components: {pathItems: {item: {get: {}}}}";
    let imported = description(fields, "\n  /a: {$ref: '#/components/pathItems/item'}");
    assert_eq!(lines(&imported), [format!("GET /a a.a.get {ALL}")]);
}

#[test]
fn a_derived_tag_on_two_resources_is_a_collision_and_is_reported() {
    let imported = description(
        "",
        "
  /api/v1/tickets/{id}: {delete: {}}
  /api/v2/tickets/{ticket}: {delete: {}}
  /tickets: {delete: {}}
  /users/{id}: {delete: {}, get: {x-keyward-tags: users.users.delete}}",
    );
    let operations = ["DELETE /api/v1/tickets/{id}", "DELETE /api/v2/tickets/{ticket}", "DELETE /tickets"];
    let operations = operations.map(str::to_owned).to_vec();
    assert_eq!(imported.collisions, [Collision { tag: "tickets.tickets.delete".into(), operations }]);
    let imported = description("", "\n  /v1/t: {get: {}}\n  /v2/t: {get: {}}");
    assert_eq!(imported.collisions, []);
}

#[test]
fn what_is_no_description_is_refused_with_the_place_or_the_reason() {
    for (text, why) in [
        ("swagger: '2.0'\npaths: {}", "Swagger 2; convert"),
        ("openapi: 4.0.0", "OpenAPI 4.0.0 is not known"),
        ("paths: {}", "no field `openapi`"),
        ("[]", "line 1"),
        ("openapi: 3.0.0\npaths: []", "line 2"),
        ("openapi: 3.0.0\npaths:\n  /a: {get: {}}\n  /a: {get: {}}", "line 4, column 3: duplicate key"),
        ("openapi: 3.0.0\npaths:\n  /a: {get: {}, get: {}}", "duplicate key `get`"),
        ("openapi: 3.0.0\npaths:\n  /a:\n    get: []", "line 4"),
        ("openapi: 3.0.0\npaths: {}\ncomponents: {schemas: {a: SECRET}}", "invalid type: string, expected a schema"),
        ("openapi: 3.0.0\npaths:\n  /a: {get: {x-keyward-tags: {a: b}}}", "a string or an array of strings"),
    ] {
        let error = read(text.as_bytes(), Syntax::Yaml).err().map(|e| e.to_string());
        assert!(error.as_ref().is_some_and(|e| e.contains(why)), "{text}: {error:?}");
    }
    for (text, why) in [
        (r#"{"openapi": "3.0.0", "paths": {"/a": {}, "/a": {}}}"#, "duplicate key `/a`"),
        (r#"{"openapi": "3.0.0", "paths": {"/a": {"get": {}, "get": {}}}}"#, "duplicate field `get`"),
        (r#"{"openapi": "3.0.0", "#, "line 1"),
    ] {
        let error = read(text.as_bytes(), Syntax::Json).err().map(|e| e.to_string());
        assert!(error.as_ref().is_some_and(|e| e.contains(why)), "{text}: {error:?}");
    }
}

#[test]
fn a_text_that_begins_with_a_brace_is_json() {
    for (text, syntax) in
        [("{", Syntax::Json), (" \n{", Syntax::Json), ("openapi: 3", Syntax::Yaml), ("", Syntax::Yaml)]
    {
        assert_eq!(guess_syntax(text.as_bytes()), syntax);
    }
}

proptest! {
    #[test]
    fn whatever_a_path_is_it_becomes_a_sound_endpoint_or_a_refusal(
        path in "/?([a-zA-Z0-9{}/%~.:;@ é+_-]|\\{[a-z.]{1,4}\\}|/api|/v2|%2[0-9fF]){0,12}",
        base in "(https://h)?(/|[a-z{}./%]){0,6}",
    ) {
        let text = serde_json::json!({
            "openapi": "3.0.0",
            "servers": [{"url": base}],
            "paths": {path.clone(): {"get": {}, "delete": {"x-keyward-tags": "a"}}},
        });
        let imported = read(text.to_string().as_bytes(), Syntax::Json).unwrap_or_else(|e| panic!("{e}"));
        let extension = path.starts_with("x-");
        prop_assert_eq!(imported.endpoints.len() + imported.refused.len(), if extension { 0 } else { 2 });
        for endpoint in &imported.endpoints {
            let (Said::Derived(tags) | Said::Outright(tags)) = &endpoint.tags;
            prop_assert!(tags.iter().all(|tag| Tag::parse(tag).is_ok()));
            prop_assert!(Template::parse(endpoint.template.as_str()).is_ok());
        }
    }
}
