//! The tables of `docs/people.md`, which are those of the code.

#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    reason = "an integration test is a test module, and a panic is a failed test"
)]

use holdfast_service_api::management::{NEEDS, Reach, Who};
use holdfast_service_domain::approval::Kind;
use holdfast_service_domain::role::{Need, Role};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/people.md");

/// Returns the page with another text between two marks.
fn replaced(page: &str, mark: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}{text}{end}{after}")
}

#[test]
fn the_page_on_people_has_the_roles_needs_and_approvals_of_the_code() {
    let words: Vec<&str> = Need::ALL.iter().map(|need| need.word()).collect();
    let mut roles = format!("| role | {} |\n| --- |{}\n", words.join(" | "), " :-: |".repeat(8));
    for role in Role::ALL {
        let may = Need::ALL.map(|need| if role.may(need) { "x" } else { "" });
        roles += &format!("| `{}` | {} |\n", role.word(), may.join(" | "));
    }
    let mut approvals =
        "| change | what it is | who may approve it |\n| --- | --- | --- |\n".to_owned();
    for kind in Kind::ALL {
        let roles = Role::ALL.iter().filter(|role| role.may(kind.need()));
        let roles: Vec<String> = roles.map(|role| format!("`{}`", role.word())).collect();
        let (word, meaning) = (kind.word(), kind.meaning());
        approvals += &format!("| `{word}` | {meaning} | {} |\n", roles.join(", "));
    }
    let mut operations =
        "| operation | needs | the role reaches |\n| --- | --- | --- |\n".to_owned();
    for need in NEEDS {
        let path = need.operation.replace("/v1/catalogs/{catalog}", "…");
        let reach = if need.who == Who::Session { Reach::None } else { need.reach };
        operations += &format!("| `{path}` | {} | {} |\n", need.need(), reach.meaning());
    }
    let page = std::fs::read_to_string(PAGE).unwrap();
    let mut as_it_is = page.clone();
    for (mark, text) in [("roles", &roles), ("approvals", &approvals), ("operations", &operations)]
    {
        as_it_is = replaced(&as_it_is, mark, text);
    }
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &as_it_is).unwrap();
    }
    assert!(page == as_it_is || std::env::var_os("HOLDFAST_WRITE_DOCS").is_some(), "written anew");
}
