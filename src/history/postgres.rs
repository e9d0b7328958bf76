//! `type: postgres`: a database that several gateways may share.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

/// Reads a URL. The reason never repeats any of it.
///
/// # Errors
///
/// If it is no URL of a PostgreSQL.
pub fn address(url: &str) -> Result<PgConnectOptions, String> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err("it does not begin with postgres://".into());
    }
    PgConnectOptions::from_str(url).map_err(|_| "it cannot be read".into())
}
