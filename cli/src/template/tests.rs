//! Templates and what Go makes of them.

use serde_json::{Value, json};

use super::{Template, TemplateError};

fn value() -> Value {
    json!({
        "ID": "0123456789ab",
        "Size": 117_000_000,
        "Half": 0.5,
        "Tags": ["debian:12", "debian:bookworm"],
        "None": null,
        "Empty": [],
        "Config": {
            "Env": ["PATH=/bin", "LANG=C"],
            "Labels": {"maintainer": "someone", "org.version": "1.2"},
            "User": "",
        },
        "Yes": true,
        "Row": {"Labels": "colour=blue,sizes=1,2,3,void="},
        "Head": {"Labels": "LABELS"},
    })
}

fn render(template: &str) -> Result<String, TemplateError> {
    Template::parse(template)?.render(&value())
}

#[test]
fn templates_make_what_go_makes() {
    let cases = [
        ("", ""),
        ("plain { text }", "plain { text }"),
        ("{{.ID}}", "0123456789ab"),
        ("{{ .ID }}:{{.Size}}", "0123456789ab:117000000"),
        ("{{.Config.Env}}", "[PATH=/bin LANG=C]"),
        ("{{.Config.Labels}}", "map[maintainer:someone org.version:1.2]"),
        ("{{.None}} {{.None.Deeper}}", "<no value> <no value>"),
        ("{{json .Tags}}", r#"["debian:12","debian:bookworm"]"#),
        ("{{json .Config.User}}{{json .None}}", "\"\"null"),
        ("{{range .Tags}}<{{.}}>{{end}}", "<debian:12><debian:bookworm>"),
        ("{{range $i, $t := .Tags}}{{$i}}={{$t}};{{end}}", "0=debian:12;1=debian:bookworm;"),
        (
            "{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}} {{end}}",
            "maintainer:someone org.version:1.2 ",
        ),
        ("{{range .Empty}}x{{else}}none{{end}}{{range .None}}x{{end}}", "none"),
        ("{{range $t := .Tags}}{{$.ID}} {{end}}", "0123456789ab 0123456789ab "),
        (
            "{{range .Tags}}{{if eq . \"debian:12\"}}{{continue}}{{end}}{{.}}{{break}}{{end}}",
            "debian:bookworm",
        ),
        ("{{if .Config.User}}user{{else if .Yes}}yes{{else}}no{{end}}", "yes"),
        ("{{if and .Yes (gt .Size 5)}}big{{end}}", "big"),
        ("{{if or .None .Config.User}}a{{else}}b{{end}}", "b"),
        ("{{and .None .None.x}}", "<no value>"),
        ("{{with .Config}}{{len .Env}}{{end}}{{with .None}}x{{else}}-{{end}}", "2-"),
        ("{{index .Config.Labels \"org.version\"}}", "1.2"),
        ("{{index .Config.Labels \"missing\"}}{{index .None \"x\"}}", ""),
        ("{{index .Tags 1}} {{(index .Tags 0)}}", "debian:bookworm debian:12"),
        ("{{join .Tags \", \"}}", "debian:12, debian:bookworm"),
        ("{{.Config.Label \"maintainer\"}}{{.Config.Label \"none\"}}", "someone"),
        ("{{.Row.Label \"colour\"}} {{.Row.Label \"sizes\"}}", "blue 1,2,3"),
        (
            "{{with .Row}}{{.Label \"void\"}}{{.Label \"size\"}}{{\"colour\" | .Label}}{{end}}",
            "blue",
        ),
        ("{{.Head.Label \"org.example.build-time\"}}", "build time"),
        (
            "{{.ID | upper}} {{upper .ID | lower}} {{title \"a b-c\"}}",
            "0123456789AB 0123456789ab A B-C",
        ),
        ("{{println .ID .Yes}}", "0123456789ab true\n"),
        ("{{print 1 2 \"x\" 3}}", "1 2x3"),
        (
            "{{printf \"%s|%-6s|%5d|%05d|%q|%v|%.2f|%x|%%\" \"a\" \"b\" 7 -7 \"c\" .Tags .Half 255}}",
            "a|b     |    7|-0007|\"c\"|[debian:12 debian:bookworm]|0.50|ff|%",
        ),
        ("{{printf \"%d %s\" \"x\"}}", "%!d(x) %!s(MISSING)"),
        ("{{truncate .ID 4}}{{slice .ID 0 2}}{{slice .Tags 1}}", "012301[debian:bookworm]"),
        ("{{pad \"x\" 2 1}}|{{pad \"\" 2 1}}|", "  x ||"),
        ("{{$x := .ID}}{{$x}}{{$x = \"new\"}} {{$x}}", "0123456789ab new"),
        ("a {{- /* nothing */ -}} b", "ab"),
        ("a {{- .ID -}} \n b", "a0123456789abb"),
        ("{{`raw \\n`}}{{\"\\t\\\"\"}}", "raw \\n\t\""),
        (
            "{{not .Yes}} {{ne 1 2}} {{le 2 2}} {{lt \"a\" \"b\"}} {{eq .ID \"x\" \"0123456789ab\"}}",
            "false true true true true",
        ),
        ("{{eq 1 1.0}} {{-5}} {{0x10}} {{true}}", "true -5 16 true"),
        ("{{split \"a,b\" \",\"}}", "[a b]"),
    ];
    for (template, wanted) in cases {
        assert_eq!(render(template).as_deref(), Ok(wanted), "{template}");
    }
}

#[test]
fn what_makes_no_sense_is_said() {
    let cases = [
        ("{{.Nope}}", "map has no entry for key \"Nope\""),
        ("{{.ID.x}}", "can't evaluate field x in type string"),
        ("{{", "unclosed action"),
        ("{{.ID", "unclosed action"),
        ("{{/* x", "unclosed comment"),
        ("{{\"x}}", "unterminated quoted string"),
        ("{{`x}}", "unterminated quoted string"),
        ("{{if .Yes}}", "unexpected EOF: an {{end}} is missing"),
        ("{{if .Yes}}{{else}}", "unexpected EOF: an {{end}} is missing"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{}}", "missing value for command"),
        ("{{if}}{{end}}", "missing value for if, with or range"),
        ("{{.ID | }}", "missing value for command"),
        ("{{(.ID}}", "unexpected end of action: a `)` is missing"),
        ("{{.ID)}}", "unexpected \")\""),
        ("{{nope .ID}}", "function \"nope\" not defined"),
        ("{{template \"x\"}}", "unexpected {{template}}"),
        ("{{$x}}", "undefined variable \"$x\""),
        ("{{1x}}", "bad number syntax: \"1x\""),
        ("{{?}}", "bad character '?'"),
        ("{{.ID .Size}}", "unexpected argument: what stands first is no function"),
        ("{{.Config.Label 1}}", "unexpected argument: what stands first is no function"),
        ("{{.Label \"x\"}}", "map has no entry for key \"Labels\""),
        ("{{range .Size}}{{end}}", "range can't iterate over 117000000"),
        ("{{range $a, $b}}{{end}}", "unexpected \",\" in range"),
        ("{{index .Tags 9}}", "error calling index: index out of range: 9"),
        ("{{index .Tags -1}}", "error calling index: index out of range: -1"),
        ("{{slice .ID 5 2}}", "error calling slice: index out of range: 5:2"),
        ("{{slice \"ä\" 1}}", "error calling slice: index out of range: 1:2"),
        ("{{len 3}}", "error calling len: len of type number"),
        ("{{eq 1 \"1\"}}", "error calling eq: incompatible types for comparison"),
        ("{{eq 1}}", "error calling eq: missing argument for comparison"),
        ("{{lt .Tags 1}}", "error calling lt: invalid type for comparison"),
        ("{{join .ID \",\"}}", "error calling join: expected list; found 0123456789ab"),
        ("{{upper .Size}}", "error calling upper: expected string; found 117000000"),
        ("{{upper}}", "error calling upper: wrong number of args: want 1 got 0"),
    ];
    for (template, wanted) in cases {
        let error = render(template).expect_err(template).to_string();
        assert_eq!(error, wanted, "{template}");
    }
}

#[test]
fn hostile_templates_end() {
    let deep = ["(".repeat(100_000), "{{if .Yes}}".repeat(100_000)];
    assert_eq!(render(&format!("{{{{{}", deep[0])), Err(TemplateError::UnclosedAction));
    assert_eq!(render(&format!("{{{{{}}}}}", deep[0])), Err(TemplateError::Depth));
    assert_eq!(render(&deep[1]), Err(TemplateError::Depth));
    let chain = "{{if .None}}".to_owned() + &"{{else if .None}}".repeat(100_000);
    assert_eq!(render(&chain), Err(TemplateError::Depth));
    let wide = render("{{printf \"%99999999999d\" 1}}{{pad \"x\" 99999999999 0}}").unwrap();
    assert_eq!(wide.len(), 2001);
}

#[test]
fn no_cut_of_a_template_panics() {
    let whole = "a{{- range $k, $v := .Tags -}}{{printf `%5.2f` (index $.Config.Labels \"ä\") | upper}}\
                 {{else}}{{$x := -1.5e3}}{{/* c */}}{{end}}";
    for (at, _) in whole.char_indices() {
        let _ = render(&whole[..at]);
        let _ = render(&whole[at..]);
    }
}

proptest::proptest! {
    #[test]
    fn words_in_any_order_do_not_panic(words in proptest::collection::vec(0..WORDS.len(), 0..40)) {
        let text: String = words.into_iter().map(|word| WORDS[word]).collect();
        let _ = render(&text);
    }

    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = render(&text);
        let _ = render(&format!("{{{{{text}}}}}"));
    }
}

/// What templates are made of, and what they break at.
const WORDS: [&str; 44] = [
    "{{",
    "}}",
    "{{- ",
    " -}}",
    " ",
    "(",
    ")",
    "|",
    ".",
    ".ID",
    ".Tags",
    ".Config",
    ".None",
    "$",
    "$x",
    ":=",
    "=",
    ",",
    "if ",
    "else ",
    "{{end}}",
    "range ",
    "with ",
    "break",
    "index ",
    "slice ",
    "len ",
    "printf ",
    "\"%*d%v\"",
    "pad ",
    "truncate ",
    "split ",
    "join ",
    "eq ",
    "lt ",
    "and ",
    "not ",
    "-1",
    "18446744073709551615",
    "1e308",
    "0.5",
    "\"\"",
    "`ä`",
    "json ",
];
