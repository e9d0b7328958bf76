-- Words in braces differ between databases: see `sql.rs`. Statements end with a semicolon at the end of a line.

CREATE TABLE loir_apps (
    id {serial},
    provider TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (provider, name)
);

-- The id grows with time (`EventId`), so it is the index by time as well.
CREATE TABLE loir_events (
    id {id},
    at BIGINT NOT NULL,
    app BIGINT NOT NULL,
    event TEXT NOT NULL,
    kind TEXT NOT NULL,
    cause TEXT NOT NULL,
    run TEXT,
    took BIGINT,
    gateway TEXT NOT NULL,
    text TEXT NOT NULL,
    operation TEXT
);

CREATE INDEX loir_events_of_app ON loir_events (app, id);

CREATE INDEX loir_events_of_run ON loir_events (run) WHERE run IS NOT NULL;

-- The hours of an app's day (UTC, days since 1970), packed: see `pack.rs`.
CREATE TABLE loir_days (
    app BIGINT NOT NULL,
    day BIGINT NOT NULL,
    hours {bytes} NOT NULL,
    PRIMARY KEY (app, day)
) {clustered};

-- The latest batch of each gateway's run, so that none counts twice.
CREATE TABLE loir_writers (
    id {id},
    batch BIGINT NOT NULL,
    at BIGINT NOT NULL
);
