//! Forms: what will happen is told first, and then done by the management API in the name of whoever has sent the form.

use crate::action::Action;
use crate::ask::Ask;
use crate::confirm::{self, Outlook};
use crate::failure::Failure;
use crate::mood;
use crate::page::{Given, Page};
use crate::place::Place;
use crate::viewer::Viewer;
use askama::Template;
use serde::Serialize;
use serde_json::Value;

#[derive(Debug, Serialize)]
struct ConfirmDocument {
    action: &'static str,
    of: String,
    outlook: Outlook,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct ConfirmBody<'a> {
    viewer: &'a Viewer,
    action: Action,
    of: &'a str,
    outlook: &'a Outlook,
    back: String,
}

/// Shows what an action will do.
pub(crate) async fn confirm(
    ask: &Ask,
    viewer: &Viewer,
    name: &str,
    given: &Given,
) -> Result<Page, Failure> {
    let action = Action::of_name(name).filter(|action| action.is_confirmed);
    let action = action.ok_or_else(Failure::nowhere)?;
    let of = given.of_query("of")?;
    // Whoever may not do it is told so here, and not behind the button.
    if !ask.may(action.need) {
        return Err(Failure::forbidden());
    }
    let outlook = confirm::outlook(ask, action, of).await?;
    let back = viewer.to(action.back(of));
    let document = ConfirmDocument { action: action.name, of: of.to_owned(), outlook };
    let outlook = &document.outlook;
    let body = ConfirmBody { viewer, action, of, outlook, back: back.clone() };
    let page = Page::new(format!("{}?", action.label), &document, &body)?;
    Ok(page.below("Back", back))
}

#[derive(Template)]
#[template(path = "answer.html")]
struct AnswerBody {
    mood: &'static str,
    word: &'static str,
    says: String,
    back: String,
}

/// What has become of a form.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is not done before this page was seen.
    Confirm(String),
    /// It is done, and this is where one goes: the action's name is what is said there.
    Done(Action, Place),
    /// It is done, and this is its answer.
    Answered(Box<Page>),
}

/// Does what a form asks for.
pub(crate) async fn act(
    ask: &Ask,
    viewer: &Viewer,
    name: &str,
    form: &Given,
) -> Result<Outcome, Failure> {
    let action = Action::of_name(name).ok_or_else(Failure::nowhere)?;
    let of = form.get("of");
    let change = action.change(of, form)?;
    if action.is_confirmed && form.get("confirmed") != "yes" {
        return Ok(Outcome::Confirm(viewer.confirm(action.name, of)));
    }
    let answer = ask.change(&change).await?;
    if !action.has_answer {
        return Ok(Outcome::Done(action, action.back(of)));
    }
    let (word, says) = told(action, &answer);
    let back = viewer.to(action.back(of));
    let body = AnswerBody { mood: mood::of(word), word, says, back: back.clone() };
    let page = Page::new(action.label, &answer, &body)?;
    Ok(Outcome::Answered(Box::new(page.below("Back", back))))
}

/// Returns what an answer says: a word, and a sentence.
fn told(action: Action, answer: &Value) -> (&'static str, String) {
    match action.name {
        "audit-verify" => {
            let rows = answer.get("rows").and_then(Value::as_u64).unwrap_or(0);
            let rows = crate::text::count(&rows, "row follows", "rows follow");
            match answer.get("broken").and_then(Value::as_u64) {
                None => ("whole", format!("{rows} from each other, up to the head.")),
                Some(row) => (
                    "broken",
                    format!(
                        "Row {row} is not what was written, or stands behind one that is missing; {rows} from each other before it."
                    ),
                ),
            }
        }
        _ if answer.get("delivered") == Some(&Value::Bool(true)) => {
            let status = answer.get("status").and_then(Value::as_u64).unwrap_or(0);
            ("delivers", format!("The receiver has taken the test, and answered {status}."))
        }
        _ => {
            let failure = answer.get("failure").and_then(Value::as_str).unwrap_or_default();
            ("failing", format!("The receiver has not taken the test: {failure}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_broken_log_is_never_told_as_whole() {
        let of = |answer: Value| told(Action::of_name("audit-verify").unwrap(), &answer);
        assert_eq!(of(json!({"rows": 12, "broken": null})).0, "whole");
        let broken = of(json!({"rows": 3, "broken": 4}));
        assert!(broken.0 == "broken" && broken.1.starts_with("Row 4"), "{broken:?}");
        let test = |answer: Value| told(Action::of_name("webhook-test").unwrap(), &answer);
        assert_eq!(test(json!({"delivered": true, "status": 204, "failure": null})).0, "delivers");
        assert!(test(json!({"delivered": false, "failure": "refused"})).1.ends_with("refused"));
    }
}
