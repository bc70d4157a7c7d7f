//! Persons who have signed in, their sessions, and the roles that they are given.
//!
//! Both are of the whole service, as tickets are: what a person may do in a catalog is decided by roles when he asks.

use crate::columns::columns_of;
use crate::columns::{self, stored};
use crate::error::StoreError;
use crate::scope::{Actor, Scope};
use crate::step::Connection;
use crate::store::Store;
use holdfast_evidence::messages::CatalogId;
use holdfast_service_domain::extent::{Extent, Grant, may};
use holdfast_service_domain::person::{By, PersonId, shown_name};
use holdfast_service_domain::role::{Need, Role};
use holdfast_service_domain::session::{Client, Times, WRITTEN_EVERY_S};
use holdfast_service_domain::sign_in_settings::{Holder, StandingGrant};
use sqlx::any::AnyRow;
use std::collections::BTreeSet;

/// Most sessions of a person; the oldest ends where there would be more.
const MAX_SESSIONS: u32 = 16;
/// Most roles of a catalog.
pub const MAX_GRANTS: u32 = 1000;

/// A person who has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The issuer.
    pub issuer: String,
    /// The subject there.
    pub subject: String,
    /// The name, as the provider says it.
    pub name: String,
    /// Groups of the provider.
    pub groups: Vec<String>,
}

impl Person {
    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> PersonId {
        PersonId::of_subject(&self.issuer, &self.subject)
    }
}

/// A session that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Whose it is, and what he may do.
    pub actor: Actor,
    /// What it is in.
    pub client: Client,
    /// When it ends if it is not used any more, in seconds since 1970.
    pub ends_at: u64,
}

/// A role that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleGrant {
    /// Its id.
    pub id: String,
    /// Issuer of the provider.
    pub issuer: String,
    /// Whose it is.
    pub holder: Holder,
    /// What it is.
    pub grant: Grant,
    /// Who has given it.
    pub granted_by: String,
    /// When, in seconds since 1970.
    pub granted_at: u64,
}

impl Store {
    /// Returns what a person may do, in all catalogs.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn grants_of(
        &self,
        person: &Person,
        standing: &[StandingGrant],
    ) -> Result<Vec<Grant>, StoreError> {
        let mut connection = self.read().await?;
        grants_of(&mut connection, &person.issuer, &person.subject, &person.groups, standing).await
    }

    /// Keeps a session of a person who has signed in just now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin_session(
        &self,
        person: Person,
        client: Client,
        hash: String,
        now: u64,
    ) -> Result<(), StoreError> {
        self.write(move |connection| {
            Box::pin(async move {
                let id = person.id().text().to_owned();
                let groups = serde_json::to_string(&person.groups).unwrap_or_default();
                let put = "INSERT INTO person
                        (id, issuer, subject, name, claimed_groups, created_at, seen_at)
                    VALUES ($1, $2, $3, $4, $5, $6, $6)
                    ON CONFLICT (id) DO UPDATE SET name = $4, claimed_groups = $5, seen_at = $6";
                sqlx::query(put)
                    .bind(id.clone())
                    .bind(person.issuer)
                    .bind(person.subject)
                    .bind(shown_name(&person.name, &id))
                    .bind(groups.clone())
                    .bind(stored(now))
                    .execute(&mut *connection)
                    .await?;
                insert_session(connection, hash, id, client, groups, None, now).await
            })
        })
        .await
    }

    /// Keeps a session in a browser of whoever holds the token with this hash, and says whether it did: not where no such token lasts. The
    /// session that `before` names ends.
    ///
    /// The session has no rights of its own: whose the token is, is asked for anew each time.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin_session_of_token(
        &self,
        token: String,
        hash: String,
        before: Option<String>,
        now: u64,
    ) -> Result<bool, StoreError> {
        let Some(actor) = self.actor(&token, now).await? else {
            return Ok(false);
        };
        let person = actor.by.person.text().to_owned();
        let (client, groups) = (Client::Browser, "[]".to_owned());
        self.write(move |connection| {
            Box::pin(async move {
                if let Some(before) = before {
                    end_session(connection, before).await?;
                }
                insert_session(connection, hash, person, client, groups, Some(token), now).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Returns the session of this hash, if it lasts, and notes that it was used.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn session(
        &self,
        hash: &str,
        standing: &[StandingGrant],
        now: u64,
    ) -> Result<Option<Session>, StoreError> {
        let mut connection = self.read().await?;
        let query = "SELECT person, client, claimed_groups, began_at, used_at, token
            FROM session WHERE hash = $1";
        let query = sqlx::query(query).bind(hash.to_owned());
        let Some(row) = query.fetch_optional(&mut *connection).await? else {
            return Ok(None);
        };
        let client = Client::of_word(&columns::text(&row, "client")?);
        let client = client.ok_or(StoreError::Damaged("client"))?;
        let mut times = Times {
            began_at: columns::number(&row, "began_at")?,
            used_at: columns::number(&row, "used_at")?,
        };
        if !times.is_live(client, now) {
            return Ok(None);
        }
        let actor = match columns::text_if_any(&row, "token")? {
            Some(token) => {
                drop(connection);
                self.actor(&token, now).await?
            }
            None => {
                let actor = person_of(&mut connection, &row, standing).await?;
                drop(connection);
                Some(actor)
            }
        };
        let Some(actor) = actor else {
            return Ok(None);
        };
        if now >= times.used_at.saturating_add(WRITTEN_EVERY_S) {
            times.used_at = now;
            let hash = hash.to_owned();
            self.write(move |connection| {
                Box::pin(async move {
                    let update = "UPDATE session SET used_at = $2 WHERE hash = $1 AND used_at < $2";
                    let update = sqlx::query(update).bind(hash).bind(stored(now));
                    update.execute(connection).await?;
                    Ok(())
                })
            })
            .await?;
        }
        Ok(Some(Session { actor, client, ends_at: times.ends_at(client) }))
    }

    /// Ends a session.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_session(&self, hash: String) -> Result<(), StoreError> {
        self.write(move |connection| Box::pin(end_session(connection, hash))).await
    }

    /// Returns roles of a catalog by id behind `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn role_grants(
        &self,
        scope: Scope,
        after: &str,
        most: u32,
    ) -> Result<Vec<RoleGrant>, StoreError> {
        let mut connection = self.read().await?;
        let query = concat!(
            "SELECT ",
            columns_of!(role_grant),
            " FROM role_grant WHERE catalog = $1 AND id > $2 ORDER BY id LIMIT $3"
        );
        let query = sqlx::query(query).bind(scope.key()).bind(after.to_owned());
        let rows = query.bind(i64::from(most)).fetch_all(&mut *connection).await?;
        rows.iter().map(|row| grant_of(row, scope.catalog())).collect()
    }

    /// Returns a role of a catalog.
    ///
    /// # Errors
    /// There is none of this id, or those of the database.
    pub async fn role_grant(&self, scope: Scope, id: &str) -> Result<RoleGrant, StoreError> {
        let mut connection = self.read().await?;
        find_grant(&mut connection, scope, id).await
    }

    /// Returns the persons who may do there what needs this: by tokens that last, by roles of their own, and by the groups in which they
    /// were when they signed in last.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn persons_who_may(
        &self,
        scope: Scope,
        need: Need,
        at: &Extent,
        standing: &[StandingGrant],
        now: u64,
    ) -> Result<BTreeSet<PersonId>, StoreError> {
        let mut connection = self.read().await?;
        persons_who_may(&mut connection, scope, need, at, standing, now).await
    }
}

/// Keeps a session that was begun just now, by a token if one is named.
async fn insert_session(
    connection: &mut Connection,
    hash: String,
    person: String,
    client: Client,
    groups: String,
    token: Option<String>,
    now: u64,
) -> Result<(), StoreError> {
    end_old(connection, &person, now).await?;
    let insert = "INSERT INTO session
            (hash, person, client, claimed_groups, began_at, used_at, token)
        VALUES ($1, $2, $3, $4, $5, $5, $6)";
    let insert = sqlx::query(insert).bind(hash).bind(person).bind(client.word().to_owned());
    let insert = insert.bind(groups).bind(stored(now)).bind(token);
    insert.execute(connection).await?;
    Ok(())
}

async fn end_session(connection: &mut Connection, hash: String) -> Result<(), StoreError> {
    let delete = sqlx::query("DELETE FROM session WHERE hash = $1").bind(hash);
    delete.execute(connection).await?;
    Ok(())
}

/// Returns the person whose session a row is, with the roles that he has now.
async fn person_of(
    connection: &mut Connection,
    session: &AnyRow,
    standing: &[StandingGrant],
) -> Result<Actor, StoreError> {
    let id = columns::text(session, "person")?;
    let query = sqlx::query("SELECT issuer, subject, name FROM person WHERE id = $1");
    let person = query.bind(id.clone()).fetch_one(&mut *connection).await?;
    let (issuer, subject) = (columns::text(&person, "issuer")?, columns::text(&person, "subject")?);
    let groups = groups_of(session)?;
    let grants = grants_of(connection, &issuer, &subject, &groups, standing).await?;
    let name = logged_name(&columns::text(&person, "name")?, &id);
    Ok(Actor { by: By { name, person: PersonId::stored(id) }, grants })
}

/// Ends sessions of a person that are over, and the oldest where there are many. Those of other people are [`retention`](crate::retention)'s.
async fn end_old(connection: &mut Connection, person: &str, now: u64) -> Result<(), StoreError> {
    for client in Client::ALL {
        let old = "DELETE FROM session
            WHERE person = $1 AND client = $2 AND (used_at < $3 OR began_at < $4)";
        let old = sqlx::query(old).bind(person.to_owned()).bind(client.word().to_owned());
        let old = old.bind(stored(now.saturating_sub(client.idle_s())));
        let old = old.bind(stored(now.saturating_sub(client.absolute_s())));
        old.execute(&mut *connection).await?;
    }
    let most = "DELETE FROM session WHERE person = $1 AND hash NOT IN (
        SELECT hash FROM session WHERE person = $1 ORDER BY began_at DESC, hash LIMIT $2)";
    let most = sqlx::query(most).bind(person.to_owned());
    most.bind(i64::from(MAX_SESSIONS).saturating_sub(1)).execute(connection).await?;
    Ok(())
}

/// Returns the name that the audit log has: with a part of the id, so that nobody can call himself as another, or as a token.
fn logged_name(name: &str, id: &str) -> String {
    let short: String = id.chars().take(9).collect();
    format!("{name} [{short}]")
}

fn groups_of(row: &AnyRow) -> Result<Vec<String>, StoreError> {
    let text = columns::text(row, "claimed_groups")?;
    serde_json::from_str(&text).map_err(|_| StoreError::Damaged("claimed_groups"))
}

async fn grants_of(
    connection: &mut Connection,
    issuer: &str,
    subject: &str,
    groups: &[String],
    standing: &[StandingGrant],
) -> Result<Vec<Grant>, StoreError> {
    let person = PersonId::of_subject(issuer, subject);
    let of_service = standing.iter().filter_map(|grant| grant.to(issuer, &person, groups));
    let mut grants: Vec<Grant> = of_service.collect();
    let direct = concat!(
        "SELECT ",
        columns_of!(role_grant),
        " FROM role_grant
        WHERE issuer = $1 AND kind = 'subject' AND subject = $2 ORDER BY catalog, id"
    );
    let direct = sqlx::query(direct).bind(issuer.to_owned()).bind(subject.to_owned());
    let mut rows = direct.fetch_all(&mut *connection).await?;
    if !groups.is_empty() {
        let by_group = concat!(
            "SELECT ",
            columns_of!(role_grant),
            " FROM role_grant
            WHERE issuer = $1 AND kind = 'group' ORDER BY catalog, id"
        );
        let by_group = sqlx::query(by_group).bind(issuer.to_owned());
        rows.extend(by_group.fetch_all(connection).await?);
    }
    for row in &rows {
        let given = grant_of(row, columns::catalog(row, "catalog")?)?;
        let is_his = match &given.holder {
            Holder::Subject(_) => true,
            Holder::Group(group) => groups.contains(group),
        };
        if is_his {
            grants.push(given.grant);
        }
    }
    Ok(grants)
}

fn grant_of(row: &AnyRow, catalog: CatalogId) -> Result<RoleGrant, StoreError> {
    let subject = columns::text(row, "subject")?;
    let holder = match columns::text(row, "kind")?.as_str() {
        "subject" => Holder::Subject(subject),
        "group" => Holder::Group(subject),
        _ => return Err(StoreError::Damaged("kind")),
    };
    Ok(RoleGrant {
        id: columns::text(row, "id")?,
        issuer: columns::text(row, "issuer")?,
        holder,
        grant: Grant { role: columns::role(row)?, extent: columns::extent(row, catalog)? },
        granted_by: columns::text(row, "granted_by")?,
        granted_at: columns::number(row, "granted_at")?,
    })
}

async fn find_grant(
    connection: &mut Connection,
    scope: Scope,
    id: &str,
) -> Result<RoleGrant, StoreError> {
    let query = sqlx::query(concat!(
        "SELECT ",
        columns_of!(role_grant),
        " FROM role_grant WHERE catalog = $1 AND id = $2"
    ));
    let row = query.bind(scope.key()).bind(id.to_owned()).fetch_optional(connection).await?;
    grant_of(&row.ok_or(StoreError::Missing("role"))?, scope.catalog())
}

/// Gives a role.
///
/// # Errors
/// It is there, there are as many as there may be, there is no such group or product, or those of the database.
pub async fn give(
    connection: &mut Connection,
    scope: Scope,
    given: RoleGrant,
) -> Result<(), StoreError> {
    let count = sqlx::query("SELECT COUNT(*) AS roles FROM role_grant WHERE catalog = $1");
    let count = count.bind(scope.key()).fetch_one(&mut *connection).await?;
    if columns::number(&count, "roles")? >= u64::from(MAX_GRANTS) {
        return Err(StoreError::Full { what: "roles", most: MAX_GRANTS });
    }
    must_be_there(connection, scope, &given.grant.extent).await?;
    let (product, group) = (given.grant.extent.product(), given.grant.extent.group());
    let there = "SELECT id FROM role_grant WHERE catalog = $1 AND issuer = $2 AND kind = $3
        AND subject = $4 AND role = $5 AND COALESCE(product, '') = $6 AND COALESCE(grp, '') = $7";
    let there = sqlx::query(there)
        .bind(scope.key())
        .bind(given.issuer.clone())
        .bind(given.holder.kind().to_owned())
        .bind(given.holder.text().to_owned())
        .bind(given.grant.role.word().to_owned())
        .bind(product.unwrap_or_default().to_owned())
        .bind(group.unwrap_or_default().to_owned())
        .fetch_optional(&mut *connection)
        .await?;
    if there.is_some() {
        return Err(StoreError::There("role"));
    }
    let insert = "INSERT INTO role_grant
            (catalog, id, issuer, kind, subject, role, product, grp, granted_by, granted_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    sqlx::query(insert)
        .bind(scope.key())
        .bind(given.id)
        .bind(given.issuer)
        .bind(given.holder.kind().to_owned())
        .bind(given.holder.text().to_owned())
        .bind(given.grant.role.word().to_owned())
        .bind(product.map(str::to_owned))
        .bind(group.map(str::to_owned))
        .bind(given.granted_by)
        .bind(stored(given.granted_at))
        .execute(connection)
        .await?;
    Ok(())
}

/// Demands that a product or a group is there, so that nobody is given a role for one that somebody makes later by this name.
pub(crate) async fn must_be_there(
    connection: &mut Connection,
    scope: Scope,
    extent: &Extent,
) -> Result<(), StoreError> {
    let (query, missing) = match extent {
        Extent::Service | Extent::Catalog(_) => return Ok(()),
        Extent::Product(..) => {
            ("SELECT name FROM product WHERE catalog = $1 AND name = $2 AND $3 = ''", "product")
        }
        Extent::Group(..) => {
            ("SELECT name FROM grp WHERE catalog = $1 AND product = $2 AND name = $3", "group")
        }
    };
    let query = sqlx::query(query).bind(scope.key());
    let query = query.bind(extent.product().unwrap_or_default().to_owned());
    let query = query.bind(extent.group().unwrap_or_default().to_owned());
    let found = query.fetch_optional(connection).await?;
    found.map(|_| ()).ok_or(StoreError::Missing(missing))
}

/// Takes a role away.
///
/// # Errors
/// There is none of this id, it is the last owner's, or those of the database.
pub async fn take_away(
    connection: &mut Connection,
    scope: Scope,
    id: &str,
    standing: &[StandingGrant],
    now: u64,
) -> Result<(), StoreError> {
    // Two last owners who are removed at once wait for each other.
    let lock = "UPDATE catalog SET revision = revision WHERE id = $1";
    sqlx::query(lock).bind(scope.key()).execute(&mut *connection).await?;
    let taken = find_grant(connection, scope, id).await?;
    let delete = sqlx::query("DELETE FROM role_grant WHERE catalog = $1 AND id = $2");
    delete.bind(scope.key()).bind(id.to_owned()).execute(&mut *connection).await?;
    if taken.grant.role == Role::Owner {
        must_be_owned(connection, scope, standing, now).await?;
    }
    Ok(())
}

/// Demands that somebody owns the whole catalog: a person, a group of a provider, or whoever has a token that lasts.
pub(crate) async fn must_be_owned(
    connection: &mut Connection,
    scope: Scope,
    standing: &[StandingGrant],
    now: u64,
) -> Result<(), StoreError> {
    if standing.iter().any(|grant| grant.role == Role::Owner) {
        return Ok(());
    }
    let query = "SELECT id FROM role_grant
        WHERE catalog = $1 AND role = 'owner' AND product IS NULL LIMIT 1";
    let found = sqlx::query(query).bind(scope.key()).fetch_optional(&mut *connection).await?;
    if found.is_some() {
        return Ok(());
    }
    let query = "SELECT hash FROM token WHERE (catalog = $1 OR catalog IS NULL)
        AND role = 'owner' AND product IS NULL AND ends_at > $2 LIMIT 1";
    let query = sqlx::query(query).bind(scope.key()).bind(stored(now));
    query.fetch_optional(connection).await?.map(|_| ()).ok_or(StoreError::LastOwner)
}

pub(crate) async fn persons_who_may(
    connection: &mut Connection,
    scope: Scope,
    need: Need,
    at: &Extent,
    standing: &[StandingGrant],
    now: u64,
) -> Result<BTreeSet<PersonId>, StoreError> {
    let mut persons = BTreeSet::new();
    let tokens = concat!(
        "SELECT ",
        columns_of!(token),
        " FROM token WHERE (catalog = $1 OR catalog IS NULL) AND ends_at > $2"
    );
    let tokens = sqlx::query(tokens).bind(scope.key()).bind(stored(now));
    for row in &tokens.fetch_all(&mut *connection).await? {
        let catalog = columns::text_if_any(row, "catalog")?;
        let extent = match catalog {
            None => Extent::Service,
            Some(_) => columns::extent(row, scope.catalog())?,
        };
        if may(&[Grant { role: columns::role(row)?, extent }], need, at) {
            persons.insert(PersonId::stored(columns::text(row, "person")?));
        }
    }
    let query = sqlx::query(concat!(
        "SELECT ",
        columns_of!(role_grant),
        " FROM role_grant WHERE catalog = $1"
    ))
    .bind(scope.key());
    let rows = query.fetch_all(&mut *connection).await?;
    let given = rows.iter().map(|row| grant_of(row, scope.catalog()));
    let given: Vec<RoleGrant> = given.collect::<Result<_, _>>()?;
    let gives = |grant: &&RoleGrant| may(std::slice::from_ref(&grant.grant), need, at);
    let of_service = |grant: &&StandingGrant| grant.role.may(need);
    let mut by_group = BTreeSet::new();
    let holders = given.iter().filter(gives).map(|given| (&given.issuer, &given.holder));
    let holders =
        holders.chain(standing.iter().filter(of_service).map(|of| (&of.issuer, &of.holder)));
    for (issuer, holder) in holders {
        match holder {
            Holder::Subject(subject) => {
                persons.insert(PersonId::of_subject(issuer, subject));
            }
            Holder::Group(group) => {
                by_group.insert((issuer.clone(), group.clone()));
            }
        }
    }
    if !by_group.is_empty() {
        let rows = sqlx::query("SELECT id, issuer, claimed_groups FROM person");
        for row in &rows.fetch_all(connection).await? {
            let issuer = columns::text(row, "issuer")?;
            let is_in = |group: String| by_group.contains(&(issuer.clone(), group));
            if groups_of(row)?.into_iter().any(is_in) {
                persons.insert(PersonId::stored(columns::text(row, "id")?));
            }
        }
    }
    Ok(persons)
}
