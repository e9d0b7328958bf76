//! A program and its arguments, and the variables it is given.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::{Value, json};

use super::{problem::Problems, scalar::Scalar, yaml::Located};

/// A program and its arguments.
pub struct Command(pub Vec<Located<String>>);

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Command;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a list of the program and its arguments, for example ["python3", "app.py"]"#)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Command, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = items.next_element()? {
                    words.push(word);
                }
                Ok(Command(words))
            }
        }
        deserializer.deserialize_seq(Words)
    }
}

impl JsonSchema for Command {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Command".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let word = json!({ "type": ["string", "number", "boolean"] });
        schemars::json_schema!({
            "type": "array", "items": word, "minItems": 1,
            "examples": [["python3", "-m", "http.server", "{port}"]]
        })
    }
}

/// The name of an environment variable.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Variable(pub String);

impl Scalar for Variable {
    const NAME: &'static str = "Variable";
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains(['=', '\0']) {
            return Err("is not the name of a variable".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

super::scalar::scalar!(Variable);

/// Tells what is wrong with a command that could be read.
pub(crate) fn check(command: &Located<Command>, problems: &mut Problems) {
    let words = &command.value.0;
    if words.first().is_none_or(|word| word.trim().is_empty()) && command.lost.is_empty() {
        problems.push(command.at, "`command` is empty: write the program and its arguments");
    }
    for word in words.iter().filter(|word| word.contains('\0')) {
        problems.push(word.at, "a NUL byte cannot be given to a program");
    }
}
