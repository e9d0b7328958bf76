//! `plan` in the file: how much a gateway that is hosted for others looks after.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::scalar::Count;

/// How many provider entries and apps are looked after. Beyond, apps are proxied and neither woken nor stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostingPlan {
    /// `free`, `team` or `enterprise`; `None` for numbers of one's own, and for no plan.
    pub name: Option<&'static str>,
    /// Provider entries whose apps are looked after; all, if not set.
    pub providers: Option<usize>,
    /// Apps that are looked after; all, if not set.
    pub apps: Option<usize>,
}

const PLANS: [HostingPlan; 3] = [
    HostingPlan { name: Some("free"), providers: Some(1), apps: Some(3) },
    HostingPlan { name: Some("team"), providers: Some(3), apps: Some(20) },
    HostingPlan { name: Some("enterprise"), providers: None, apps: Some(100) },
];

/// As it was typed.
pub(super) struct Typed(pub HostingPlan);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `providers` and `apps`")]
#[schemars(rename = "OwnPlan")]
struct Own {
    /// Provider entries whose apps are looked after. Default: all.
    providers: Option<Count>,
    /// Apps that are looked after. Default: all.
    apps: Option<Count>,
}

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Typed;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`free`, `team`, `enterprise` or a map with `providers` and `apps`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Typed, E> {
                let plan = PLANS.into_iter().find(|plan| plan.name == Some(text));
                plan.map(Typed).ok_or_else(|| {
                    E::custom(
                        "is not a plan: `free`, `team`, `enterprise` or numbers, as `{providers: 2, apps: 10}`",
                    )
                })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Typed, A::Error> {
                let own = Own::deserialize(MapAccessDeserializer::new(map))?;
                let number = |count: Option<Count>| count.map(|count| count.0);
                Ok(Typed(HostingPlan {
                    name: None,
                    providers: number(own.providers),
                    apps: number(own.apps),
                }))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for Typed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Plan".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let own = generator.subschema_for::<Own>();
        json_schema!({ "anyOf": [{ "enum": ["free", "team", "enterprise"] }, own] })
    }
}
