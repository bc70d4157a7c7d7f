//! The tables of `docs/fleet.md`, which are those of the code.

use holdfast_service_domain::deployment::plan::Preset;
use holdfast_service_domain::deployment::state::{Cause, State};
use holdfast_service_domain::deployment::why::WhyNot;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/fleet.md");

/// Returns the page with another text between two marks.
fn replaced(page: &str, mark: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- end of {mark} -->"));
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}{text}{end}{after}")
}

fn hours(seconds: u64) -> String {
    format!("{} h", seconds / 3600)
}

#[test]
fn the_page_has_the_states_reasons_and_presets_of_the_code() {
    let mut states = "| state | meaning |\n| --- | --- |\n".to_owned();
    for state in State::ALL {
        states += &format!("| `{}` | {} |\n", state.word(), state.meaning());
    }
    let mut causes = "| cause | meaning |\n| --- | --- |\n".to_owned();
    for cause in Cause::ALL {
        causes += &format!("| `{}` | {} |\n", cause.word(), cause.meaning());
    }
    let mut reasons = "| why not yet | meaning | what to do |\n| --- | --- | --- |\n".to_owned();
    for why in WhyNot::ALL {
        reasons += &format!("| `{}` | {} | {} |\n", why.word(), why.meaning(), why.remedy());
    }
    let mut presets =
        "| preset | percent of the group | soak of each stage | of a stage must have succeeded |\n\
         | --- | --- | --- | --- |\n"
            .to_owned();
    for preset in Preset::ALL {
        let plan = preset.plan();
        let shares: Vec<String> = plan
            .stages()
            .iter()
            .filter_map(|stage| stage.size.share())
            .map(|share| (share / 10).to_string())
            .collect();
        let soak = hours(plan.stages()[0].soak_s);
        let quorum = match plan.quorum_permille() {
            0 => "3 devices".to_owned(),
            quorum => format!("{} %", quorum / 10),
        };
        presets +=
            &format!("| `{}` | {} | {soak} | {quorum} |\n", preset.word(), shares.join(", "));
    }
    let page = std::fs::read_to_string(PAGE).unwrap();
    let mut as_it_is = page.clone();
    for (mark, text) in
        [("states", &states), ("causes", &causes), ("why", &reasons), ("presets", &presets)]
    {
        as_it_is = replaced(&as_it_is, mark, text);
    }
    if std::env::var_os("HOLDFAST_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &as_it_is).unwrap();
    }
    assert!(page == as_it_is || std::env::var_os("HOLDFAST_WRITE_DOCS").is_some(), "written anew");
}
