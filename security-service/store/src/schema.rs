//! The tables: versions of them, each as one text for both databases, and what only one of the two understands.
//!
//! What was released is never changed, and nothing goes back: what comes is a version of its own. From version 8 on, a version only adds
//! (*expand*), so that programs that do not know it go on beside those that do. What no program uses any more is removed (*contract*) by a
//! version that says which version a program has to know to be without it.

/// A version of the tables.
pub(crate) struct Version {
    /// Its number. Numbers rise, and need not follow each other.
    pub(crate) number: i64,
    /// For both, with `BLOB` for bytes.
    pub(crate) tables: &'static str,
    /// For SQLite alone.
    pub(crate) sqlite: &'static str,
    /// For PostgreSQL alone.
    pub(crate) postgres: &'static str,
    /// Where it removes something: the version that a program has to know to need none of that. None where it only adds.
    pub(crate) contracts: Option<i64>,
}

/// A version of both databases alike, which only adds.
const fn version(number: i64, tables: &'static str) -> Version {
    Version { number, tables, sqlite: "", postgres: "", contracts: None }
}

/// The version from which on `schema_version` says which version a program has to know.
pub(crate) const WITH_LEAST: i64 = 10;

/// Every version, in order.
pub(crate) const VERSIONS: &[Version] = &[
    Version {
        sqlite: include_str!("schema/1-sqlite.sql"),
        postgres: include_str!("schema/1-postgres.sql"),
        ..version(1, include_str!("schema/1.sql"))
    },
    version(2, include_str!("schema/2.sql")),
    version(3, include_str!("schema/3.sql")),
    version(4, include_str!("schema/4.sql")),
    version(5, include_str!("schema/5.sql")),
    version(6, include_str!("schema/6.sql")),
    version(7, include_str!("schema/7.sql")),
    version(8, include_str!("schema/8.sql")),
    version(9, include_str!("schema/9.sql")),
    version(10, include_str!("schema/10.sql")),
    version(11, include_str!("schema/11.sql")),
    version(12, include_str!("schema/12.sql")),
    version(13, include_str!("schema/13.sql")),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The first version that programs of two releases share.
    const SHARED: i64 = 8;

    /// Returns why a statement does not only add, if it does not.
    fn fault(statement: &str) -> Option<&'static str> {
        let words: Vec<String> =
            statement.split_whitespace().map(str::to_ascii_uppercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match &words[..] {
            ["CREATE", "TABLE", ..] | ["CREATE", "INDEX", ..] => None,
            ["CREATE", "TRIGGER" | "FUNCTION", ..] => {
                Some("a trigger holds for what older programs write as well")
            }
            ["CREATE", "UNIQUE", ..] => Some("older programs may write what is not unique"),
            ["ALTER", "TABLE", _, "ADD", "COLUMN", _, _, rest @ ..] => {
                let is_demanded = rest.windows(2).any(|pair| pair == ["NOT", "NULL"]);
                let has_default = rest.contains(&"DEFAULT");
                if is_demanded && !has_default {
                    return Some("older programs write no such column: give it a default");
                }
                let narrows = ["UNIQUE", "CHECK", "REFERENCES", "PRIMARY"];
                let is_narrow =
                    rest.iter().any(|word| narrows.iter().any(|one| word.starts_with(one)));
                is_narrow.then_some("older programs may write what it forbids")
            }
            // What fills new columns and tables.
            ["UPDATE" | "INSERT", ..] => None,
            _ => Some("it removes, renames or replaces what older programs use"),
        }
    }

    fn statements(version: &Version) -> Vec<&'static str> {
        let texts = [version.tables, version.sqlite, version.postgres];
        let all = texts.into_iter().flat_map(|text| text.split(';'));
        all.map(str::trim).filter(|statement| !statement.is_empty()).collect()
    }

    #[test]
    fn a_version_of_the_tables_only_adds_or_says_who_can_be_without_what_it_removes() {
        for version in VERSIONS.iter().filter(|version| version.number >= SHARED) {
            for statement in statements(version) {
                if version.contracts.is_none() {
                    assert_eq!(fault(statement), None, "{}.sql: {statement}", version.number);
                }
            }
            let is_known = |least| (SHARED..version.number).contains(&least);
            assert!(version.contracts.is_none_or(is_known), "{}", version.number);
        }
        let numbers: Vec<i64> = VERSIONS.iter().map(|version| version.number).collect();
        assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
        // The control: what was done before there was a release that others share it with.
        let seventh = VERSIONS.iter().find(|version| version.number == 7).unwrap();
        assert!(statements(seventh).into_iter().any(|statement| fault(statement).is_some()));
    }

    #[test]
    fn what_does_not_only_add_is_found() {
        for good in [
            "CREATE TABLE person (id TEXT NOT NULL PRIMARY KEY)",
            "CREATE INDEX person_by_name ON person (name)",
            "ALTER TABLE device ADD COLUMN note TEXT",
            "ALTER TABLE device ADD COLUMN notes BIGINT NOT NULL DEFAULT 0",
            "UPDATE device SET notes = 1",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in [
            "DROP TABLE device",
            "ALTER TABLE device DROP COLUMN note",
            "ALTER TABLE device RENAME TO machine",
            "ALTER TABLE device RENAME COLUMN note TO remark",
            "ALTER TABLE device ADD COLUMN notes BIGINT NOT NULL",
            "ALTER TABLE device ADD COLUMN note TEXT UNIQUE",
            "ALTER TABLE device ADD COLUMN note TEXT CHECK(note <> '')",
            "ALTER TABLE device ALTER COLUMN note SET NOT NULL",
            "create unique index person_by_name on person (name)",
            "DELETE FROM device",
            "DROP INDEX device_by_seen",
        ] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }

    /// PostgreSQL refuses a prepared statement whose columns are others than before, as they are once a newer program has added one.
    #[test]
    fn no_statement_asks_for_all_columns_of_a_table() {
        let sources = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut directories = vec![sources];
        let mut seen = 0;
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs")
                    && !path.ends_with(file!().rsplit('/').next().unwrap_or_default())
                {
                    seen += 1;
                    let text = std::fs::read_to_string(&path).unwrap();
                    let all = [["SELECT", "*"], ["RETURNING", "*"]].map(|words| words.join(" "));
                    assert!(!all.iter().any(|all| text.contains(all)), "{}", path.display());
                    let of_table = text.lines().find(|line| {
                        let mut words = line.split([' ', ',', '"']);
                        words.any(|word| word.len() < 12 && word.ends_with(".*"))
                    });
                    assert_eq!(of_table, None, "{}", path.display());
                }
            }
        }
        assert!(seen > 20, "{seen} files");
    }
}
