CREATE TABLE alert (
    catalog TEXT NOT NULL,
    number BIGINT NOT NULL,
    product TEXT NOT NULL,
    grp TEXT NOT NULL,
    at BIGINT NOT NULL,
    severity BIGINT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (catalog, number)
);
