//! How texts are written into pages: nothing of them is markup, and nothing of them is unseen.
//!
//! Names come from devices and from people. Beside what HTML reads as markup, a text may hold characters that print nothing and change what
//! stands around them: controls, marks that turn the direction of writing, spaces without width. They are written as Rust writes them, such
//! as `\u{202e}`. The templates have no other way to write a text (`askama.toml`).

use askama::filters::Escaper;
use std::fmt::{self, Write};

/// The escaper of every template.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Visible;

impl Escaper for Visible {
    fn write_escaped_str<W: Write>(&self, mut to: W, text: &str) -> fmt::Result {
        text.chars().try_for_each(|letter| write(&mut to, letter))
    }

    fn write_escaped_char<W: Write>(&self, mut to: W, letter: char) -> fmt::Result {
        write(&mut to, letter)
    }
}

fn write<W: Write>(to: &mut W, letter: char) -> fmt::Result {
    match letter {
        '&' => to.write_str("&amp;"),
        '<' => to.write_str("&lt;"),
        '>' => to.write_str("&gt;"),
        '"' => to.write_str("&#34;"),
        '\'' => to.write_str("&#39;"),
        '`' => to.write_str("&#96;"),
        letter if is_unseen(letter) => write!(to, "{}", letter.escape_unicode()),
        letter => to.write_char(letter),
    }
}

/// True for what prints nothing of its own: controls, marks of direction, and formats (Unicode's `Cc`, `Cf`, `Zl` and `Zp`).
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns a text as the templates write it.
#[cfg(test)]
pub(crate) fn visible(text: &str) -> String {
    let mut written = String::new();
    // Writing to a text does not fail.
    let _ = Visible.write_escaped_str(&mut written, text);
    written
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn no_text_is_markup_or_turns_what_stands_beside_it() {
        for (text, expected) in [
            ("<script>alert('1')</script>", "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;"),
            ("a\" onload=\"b` & c", "a&#34; onload=&#34;b&#96; &amp; c"),
            ("pump\u{202e}gnp.exe\u{2066}", "pump\\u{202e}gnp.exe\\u{2066}"),
            ("one\ntwo\0\u{9b}\u{feff}\u{e0041}", "one\\u{a}two\\u{0}\\u{9b}\\u{feff}\\u{e0041}"),
            ("Pumpe größer 泵 مضخة", "Pumpe größer 泵 مضخة"),
        ] {
            assert_eq!(visible(text), expected);
        }
    }
}
