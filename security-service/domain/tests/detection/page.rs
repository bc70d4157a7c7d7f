//! The tables of `docs/threat-detection.md`, which are those of the code.

use holdfast_service_domain::detection::rule::Rule;
use holdfast_service_domain::detection::thresholds::Thresholds;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/threat-detection.md");

/// Returns the page with another text between two marks.
fn replaced(page: &str, mark: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}{text}{end}{after}")
}

#[test]
fn the_page_has_the_rules_and_thresholds_of_the_code() {
    let mut rules = "| rule | it sees | what to do |\n| --- | --- | --- |\n".to_owned();
    for rule in Rule::ALL {
        rules += &format!("| `{}` | {} | {} |\n", rule.word(), rule.sees(), rule.remedy());
    }
    let mut thresholds = "| threshold | rule | default | bounds | meaning |\n\
                          | --- | --- | ---: | --- | --- |\n"
        .to_owned();
    for it in Thresholds::ALL {
        let names: Vec<_> = it.rules.iter().map(|rule| format!("`{}`", rule.word())).collect();
        thresholds += &format!(
            "| `{}` | {} | {} | {} to {} | {} |\n",
            it.name,
            names.join(", "),
            it.default,
            it.least,
            it.most,
            it.means
        );
    }
    let page = std::fs::read_to_string(PAGE).unwrap();
    let as_it_is = replaced(&replaced(&page, "rules", &rules), "thresholds", &thresholds);
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &as_it_is).unwrap();
    }
    assert!(page == as_it_is || std::env::var_os("HOLDFAST_WRITE_DOCS").is_some(), "written anew");
}
