//! Who gets in with what, when no more, and whether the store agrees.

use std::future::Future as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use russh::keys::{Algorithm, PrivateKey, PublicKey};
use tempfile::TempDir;

use super::*;
use crate::store::SledStore;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const PASSWORD: &str = "correct horse";

struct Bench {
    access: Access,
    store: Arc<dyn Store>,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store: Arc<dyn Store> =
            Arc::new(SledStore::open(&folder.path().join("store"), 1 << 20).expect("a store"));
        Self { access: Access::load(&mut Records::default(), Arc::clone(&store)), store, _folder: folder }
    }

    /// As after a restart.
    fn again(&self) -> Access {
        Access::load(&mut self.store.load().expect("readable"), Arc::clone(&self.store))
    }

    async fn user(&self, name: &str, role: Role, tags: Option<&[&str]>) -> User {
        let tags = tags.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect());
        let new = NewUser { name: of(name), password: Some(PASSWORD.into()), role, tags };
        self.access.users().create(new).await.expect("a good user")
    }

    async fn session(&self, name: &str) -> (Operator, String) {
        let (_, session) =
            self.access.sign_in(name, PASSWORD.into(), HERE).await.expect("the right password");
        let cookie = session.cookie.expose().clone();
        (self.access.by_session(&cookie).expect("just begun"), cookie)
    }

    async fn token(&self, maker: &Operator, spec: TokenSpec) -> Result<(Operator, String), TokenError> {
        let token = self.access.tokens().create_by(maker, spec).await?.token.expose().clone();
        Ok((self.access.by_token(&token).expect("just made"), token))
    }

    async fn root(&self) -> Operator {
        let token = self.access.tokens().create_unbound("root").await.expect("made").token;
        self.access.by_token(token.expose()).expect("just made")
    }

    async fn set(&self, name: &str, role: Option<Role>, tags: Option<Option<&[&str]>>) {
        let tags = tags.map(|tags| tags.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect()));
        self.access.users().change(&of(name), ChangeUser { role, tags }).await.expect("allowed");
    }
}

fn of(name: &str) -> UserName {
    name.parse().expect("a name")
}

fn spec(role: Option<Role>, tags: Option<&[&str]>) -> TokenSpec {
    let tags = tags.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect());
    TokenSpec { label: "script".into(), role, tags, life: None }
}

fn tagged(tags: &[&str]) -> Reach {
    Reach::tagged(tags.iter().map(|tag| (*tag).to_owned()))
}

fn public_key() -> PublicKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).expect("a key").public_key().clone()
}

fn line(key: &PublicKey) -> String {
    format!("{} ada@work", key.to_openssh().expect("a line"))
}

#[tokio::test]
async fn a_token_counts_from_its_creation_to_its_revocation_and_the_store_agrees() {
    let bench = Bench::new();
    let root = bench.root().await;
    let (operator, token) = bench.token(&root, spec(Some(Role::Viewer), Some(&["web"]))).await.expect("made");
    assert_eq!((operator.role, operator.reach.clone()), (Role::Viewer, tagged(&["web"])));
    assert_eq!(bench.again().by_token(&token), Some(operator.clone()));
    let Credential::Token(id) = operator.credential else { panic!("{operator:?}") };
    bench.access.tokens().revoke(&root, id).await.expect("it is there");
    assert_eq!(bench.access.by_token(&token), None);
    assert_eq!(bench.again().by_token(&token), None);
    assert!(matches!(bench.access.tokens().revoke(&root, id).await, Err(TokenError::NoSuchToken(_))));
}

#[tokio::test]
async fn a_credential_of_one_kind_is_none_of_another() {
    let bench = Bench::new();
    bench.user("ada", Role::Admin, None).await;
    let (operator, cookie) = bench.session("ada").await;
    let (_, token) = bench.token(&operator, spec(None, None)).await.expect("made");
    assert_eq!(bench.access.by_token(&cookie), None);
    assert_eq!(bench.access.by_session(&token), None);
    for nothing in ["", "tga_", "tgs_", "tga_wrong", &token[..token.len() - 1]] {
        assert_eq!((bench.access.by_token(nothing), bench.access.by_session(nothing)), (None, None));
    }
}

#[tokio::test]
async fn a_users_credentials_shrink_with_them_and_go_with_them() {
    let bench = Bench::new();
    let root = bench.root().await;
    bench.user("root", Role::Admin, None).await;
    bench.user("ada", Role::Admin, Some(&["berlin"])).await;
    let (by_session, cookie) = bench.session("ada").await;
    assert_eq!((by_session.role, by_session.reach.clone()), (Role::Admin, tagged(&["berlin"])));
    let (by_token, token) =
        bench.token(&by_session, spec(Some(Role::Operator), Some(&["web"]))).await.expect("less");
    assert_eq!(by_token.reach, tagged(&["web"]).and(tagged(&["berlin"])));
    let key = public_key();
    bench.access.ssh_keys().add(&by_session, Owner::Maker, "laptop", &line(&key)).await.expect("hers");
    assert_eq!(
        bench.access.by_ssh_key(&key).map(|it| (it.name, it.role)),
        Some(("ada".into(), Role::Operator))
    );

    bench.set("ada", Some(Role::Viewer), Some(Some(&["hamburg"]))).await;
    for access in [&bench.access, &bench.again()] {
        for operator in [access.by_session(&cookie), access.by_token(&token), access.by_ssh_key(&key)] {
            let operator = operator.expect("still hers");
            assert_eq!(operator.role, Role::Viewer);
            assert!(operator.reach.is_within(&tagged(&["hamburg"])), "{operator:?}");
        }
    }

    bench.access.users().delete(&of("ada")).await.expect("not the last");
    for access in [&bench.access, &bench.again()] {
        assert_eq!(access.by_session(&cookie), None);
        assert_eq!(access.by_token(&token), None);
        assert_eq!(access.by_ssh_key(&key), None);
    }
    let left = bench.store.load().expect("readable");
    assert_eq!((left.users.len(), left.sessions.len(), left.tokens.len(), left.ssh_keys.len()), (1, 0, 1, 0));
    assert_eq!(bench.access.tokens().visible_to(&root).len(), 1);
}

#[tokio::test]
async fn nobody_makes_a_token_or_a_key_that_allows_more_than_they_came_with() {
    let bench = Bench::new();
    bench.user("ada", Role::Operator, Some(&["berlin", "hamburg"])).await;
    let (ada, _) = bench.session("ada").await;
    for (role, tags, allowed) in [
        (None, None, true),
        (Some(Role::Viewer), None, true),
        (Some(Role::Admin), None, false),
        // Bound to her tags as well, whatever it says.
        (None, Some(&["web"][..]), true),
    ] {
        assert_eq!(bench.token(&ada, spec(role, tags)).await.is_ok(), allowed, "{role:?} {tags:?}");
    }

    let (narrow, _) = bench.token(&ada, spec(Some(Role::Operator), Some(&["web"]))).await.expect("less");
    let (child, _) = bench.token(&narrow, spec(None, None)).await.expect("the same");
    assert_eq!(child.reach, narrow.reach);
    let wider = bench.token(&narrow, spec(None, Some(&["web", "db"]))).await;
    assert!(matches!(wider, Err(TokenError::More(Role::Operator))));
    let key = bench.access.ssh_keys().add(&narrow, Owner::Maker, "key", &line(&public_key())).await;
    assert!(matches!(key, Err(SshKeyError::More)), "the key would reach all that she reaches");
    let (viewer, _) = bench.token(&ada, spec(Some(Role::Viewer), None)).await.expect("less");
    let key = bench.access.ssh_keys().add(&viewer, Owner::Maker, "key", &line(&public_key())).await;
    assert!(matches!(key, Err(SshKeyError::More)), "the key would do more than look");

    let root = bench.root().await;
    let (nobodys, _) = bench.token(&root, spec(Some(Role::Operator), None)).await.expect("less");
    assert!(matches!(bench.token(&nobodys, spec(None, None)).await, Err(TokenError::Nobody)));
    let key = bench.access.ssh_keys().add(&nobodys, Owner::Maker, "key", &line(&public_key())).await;
    assert!(matches!(key, Err(SshKeyError::Nobody)));
}

#[tokio::test]
async fn people_see_and_revoke_their_own_credentials_only() {
    let bench = Bench::new();
    let root = bench.root().await;
    for name in ["ada", "grace"] {
        bench.user(name, Role::Operator, None).await;
    }
    let (ada, _) = bench.session("ada").await;
    let (grace, _) = bench.session("grace").await;
    let (of_ada, _) = bench.token(&ada, spec(None, None)).await.expect("made");
    let key =
        bench.access.ssh_keys().add(&ada, Owner::Maker, "key", &line(&public_key())).await.expect("added");
    let Credential::Token(id) = of_ada.credential else { panic!("{of_ada:?}") };
    let (tokens, keys) = (bench.access.tokens(), bench.access.ssh_keys());
    assert_eq!((tokens.visible_to(&grace).len(), keys.visible_to(&grace).len()), (0, 0));
    assert_eq!((tokens.visible_to(&ada).len(), keys.visible_to(&ada).len()), (1, 1));
    assert_eq!((tokens.visible_to(&root).len(), keys.visible_to(&root).len()), (2, 1));
    assert!(matches!(tokens.revoke(&grace, id).await, Err(TokenError::NoSuchToken(_))));
    assert!(matches!(keys.remove(&grace, key.record.id).await, Err(SshKeyError::NoSuchKey(_))));
    keys.remove(&ada, key.record.id).await.expect("hers");
    tokens.revoke(&of_ada, id).await.expect("itself");
}

#[tokio::test]
async fn one_key_has_one_owner_however_often_it_is_added() {
    let bench = Bench::new();
    let root = bench.root().await;
    let (keys, line) = (bench.access.ssh_keys(), line(&public_key()));
    let (one, two) = tokio::join!(
        keys.add(&root, Owner::Nobody, "Ada", &line),
        keys.add(&root, Owner::Nobody, "Grace", &line)
    );
    let first = one.expect("the first");
    match two.expect_err("there is one already") {
        SshKeyError::Known { id, label } => assert_eq!((id, label), (first.record.id, "Ada".to_owned())),
        other => panic!("{other}"),
    }
    assert_eq!(keys.visible_to(&root), [first]);
}

#[tokio::test]
async fn a_key_is_known_whatever_its_comment_and_one_that_can_not_be_read_keeps_nobody_out() {
    let bench = Bench::new();
    let root = bench.root().await;
    let mut key = public_key();
    let added = bench.access.ssh_keys().add(&root, Owner::Maker, "Ada", &line(&key)).await.expect("added");
    key.set_comment("another comment");
    let operator = bench.access.by_ssh_key(&key).expect("known");
    assert_eq!(
        (operator.name.as_str(), operator.role, operator.reach.is_all()),
        ("Ada", Role::Operator, true)
    );
    assert_eq!(bench.access.by_ssh_key(&public_key()), None);
    let mut records = bench.store.load().expect("readable");
    let damaged = crate::domain::people::SshKey { key: "ssh-ed25519 AAAA".into(), ..added.record };
    records.ssh_keys.insert(0, crate::domain::people::SshKey { id: Uuid::nil(), ..damaged });
    let access = Access::load(&mut records, Arc::clone(&bench.store));
    assert_eq!(access.by_ssh_key(&key), Some(operator));
    assert_eq!(access.ssh_keys().visible_to(&root).len(), 1);
}

#[tokio::test]
async fn labels_lives_tags_and_keys_have_bounds() {
    let bench = Bench::new();
    let root = bench.root().await;
    for label in ["", "a\nb", &"x".repeat(MAX_LABEL + 1)] {
        let labelled = TokenSpec { label: label.into(), ..spec(None, None) };
        assert!(matches!(bench.token(&root, labelled).await, Err(TokenError::Label)));
        let key = bench.access.ssh_keys().add(&root, Owner::Maker, label, &line(&public_key())).await;
        assert!(matches!(key, Err(SshKeyError::Label)));
    }
    for life in [0, 59, 1 << 40] {
        let living = TokenSpec { life: Some(Duration::from_secs(life)), ..spec(None, None) };
        assert!(matches!(bench.token(&root, living).await, Err(TokenError::Life)));
    }
    assert!(matches!(bench.token(&root, spec(None, Some(&["a,b"]))).await, Err(TokenError::Tags(_))));
    let key = bench.access.ssh_keys().add(&root, Owner::Maker, "Ada", "no key").await;
    assert!(matches!(key, Err(SshKeyError::Key(_))));
}

#[tokio::test]
async fn what_has_expired_is_unknown() {
    let bench = Bench::new();
    bench.user("ada", Role::Admin, None).await;
    let (operator, cookie) = bench.session("ada").await;
    let living = TokenSpec { life: Some(Duration::from_secs(60)), ..spec(None, None) };
    let (_, token) = bench.token(&operator, living).await.expect("made");
    let mut records = bench.store.load().expect("readable");
    for (session, token) in records.sessions.iter_mut().zip(&mut records.tokens) {
        session.expires_at = now();
        token.expires_at = Some(now());
    }
    let access = Access::load(&mut records, Arc::clone(&bench.store));
    assert_eq!((access.by_session(&cookie), access.by_token(&token)), (None, None));
    assert!(bench.access.by_session(&cookie).is_some() && bench.access.by_token(&token).is_some());
}

#[tokio::test]
async fn a_restart_signs_nobody_out_and_a_new_password_all_but_one() {
    let bench = Bench::new();
    bench.user("ada", Role::Admin, None).await;
    let (here, cookie) = bench.session("ada").await;
    let (_, other) = bench.session("ada").await;
    assert_eq!(bench.again().by_session(&cookie), Some(here.clone()));
    let Credential::Session(keep) = here.credential else { panic!("{here:?}") };
    let users = bench.access.users();
    users.set_password(&of("ada"), "another password".into(), Some(keep)).await.expect("good");
    for access in [&bench.access, &bench.again()] {
        assert!(access.by_session(&cookie).is_some());
        assert_eq!(access.by_session(&other), None);
    }
    let old = bench.access.sign_in("ada", PASSWORD.into(), HERE).await;
    assert!(matches!(old, Err(SignInError::Wrong)));
    bench.access.sign_in("ada", "another password".into(), HERE).await.expect("the new one");
    bench.access.sessions().end(keep).await.expect("written");
    assert_eq!(bench.access.by_session(&cookie), None);
}

#[tokio::test]
async fn a_user_has_so_many_sessions_and_the_oldest_makes_place() {
    let bench = Bench::new();
    let user = bench.user("ada", Role::Viewer, None).await;
    let sessions = bench.access.sessions();
    let mut cookies = Vec::new();
    for _ in 0..22 {
        let begun = sessions.begin(&user).await.expect("written").expect("nothing changed");
        cookies.push(begun.cookie.expose().clone());
        // Ages are told apart by the millisecond.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let good: Vec<bool> = cookies.iter().map(|cookie| bench.access.by_session(cookie).is_some()).collect();
    assert_eq!(good, [vec![false; 2], vec![true; 20]].concat());
}

#[tokio::test]
async fn a_session_does_not_begin_for_who_changed_since_the_password_was_right() {
    let bench = Bench::new();
    bench.user("root", Role::Admin, None).await;
    let before = bench.user("ada", Role::Viewer, None).await;
    let users = bench.access.users();
    users.set_password(&before.name, "another password".into(), None).await.expect("good");
    assert!(bench.access.sessions().begin(&before).await.expect("readable").is_none());
    let late = bench.access.tokens().create_at_log_in(&before, spec(None, None)).await;
    assert!(matches!(late, Err(TokenError::Overtaken)));
    let now = users.find(&before.name).expect("there");
    users.delete(&before.name).await.expect("not the last");
    assert!(bench.access.sessions().begin(&now).await.expect("readable").is_none());
}

#[tokio::test]
async fn wrong_names_and_wrong_passwords_are_one_answer_and_are_counted() {
    let bench = Bench::new();
    bench.user("ada", Role::Admin, None).await;
    for (name, password) in [("ada", "wrong horse"), ("grace", PASSWORD), ("No Name", PASSWORD), ("ada", "")]
    {
        let refused = bench.access.sign_in(name, password.into(), HERE).await;
        assert!(matches!(refused, Err(SignInError::Wrong)), "{name}");
    }
    bench.access.sign_in("ada", PASSWORD.into(), HERE).await.expect("a right one is never too many");
    let mut refused = None;
    for _ in 0..10 {
        refused = bench.access.sign_in("grace", PASSWORD.into(), HERE).await.err();
    }
    assert!(matches!(refused, Some(SignInError::TooMany(_))), "{refused:?}");
    let right = bench.access.sign_in("ada", PASSWORD.into(), HERE).await;
    assert!(matches!(right, Err(SignInError::TooMany(_))), "the source waits, whatever it says");
    bench.access.sign_in("ada", PASSWORD.into(), [192, 0, 2, 1].into()).await.expect("another source");
}

#[tokio::test]
async fn wrong_tokens_over_ssh_are_counted_per_source() {
    let bench = Bench::new();
    let token = bench.access.tokens().create_unbound("root").await.expect("made").token.expose().clone();
    for _ in 0..100 {
        assert!(bench.access.by_ssh_password(&token, HERE).is_some(), "a right one does not count");
        assert!(bench.access.by_ssh_password("the password of an offer", HERE).is_none());
    }
    for _ in 0..5 {
        assert!(bench.access.by_ssh_password("tga_wrong", HERE).is_none());
    }
    assert!(bench.access.by_ssh_password(&token, HERE).is_none());
    assert!(bench.access.by_ssh_password(&token, [192, 0, 2, 1].into()).is_some());
}

#[tokio::test]
async fn the_first_user_is_made_with_the_code_and_once() {
    let bench = Bench::new();
    let code = bench.access.set_up_code().expect("nobody is there");
    let access = &bench.access;
    let set_up = |code: &Secret<String>, name: &str| {
        let (code, name) = (code.clone(), of(name));
        async move { access.set_up(&code, name, PASSWORD.into(), HERE).await }
    };
    assert!(matches!(set_up(&"0000-0000-0000-0000".into(), "eve").await, Err(SetUpError::WrongCode)));
    let (one, two) = tokio::join!(set_up(&code, "ada"), set_up(&code, "grace"));
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1, "{one:?} {two:?}");
    let first = one.or(two).expect("one of them");
    assert!(first.is_unbound_admin());
    assert!(bench.access.set_up_code().is_none());
    assert!(matches!(set_up(&code, "eve").await, Err(SetUpError::User(UserError::NotFirst))));
    bench.session(first.name.as_str()).await;
    assert!(bench.again().set_up_code().is_none());
}

#[tokio::test]
async fn guesses_at_the_code_are_slowed() {
    let bench = Bench::new();
    let mut refused = None;
    for _ in 0..6 {
        refused = bench.access.set_up(&"wrong".into(), of("eve"), PASSWORD.into(), HERE).await.err();
    }
    assert!(matches!(refused, Some(SetUpError::TooMany(_))), "{refused:?}");
    let code = bench.access.set_up_code().expect("nobody is there");
    bench
        .access
        .set_up(&code, of("ada"), PASSWORD.into(), [192, 0, 2, 1].into())
        .await
        .expect("from elsewhere");
}

#[tokio::test]
async fn somebody_who_can_do_everything_is_always_left() {
    let bench = Bench::new();
    let root = bench.root().await;
    let Credential::Token(root_id) = root.credential else { panic!("{root:?}") };
    assert!(matches!(bench.access.tokens().revoke(&root, root_id).await, Err(TokenError::Last)));
    let users = bench.access.users();
    let keys_only = NewUser { name: of("keys"), password: None, role: Role::Admin, tags: None };
    users.create(keys_only).await.expect("made");
    assert!(matches!(bench.access.tokens().revoke(&root, root_id).await, Err(TokenError::Last)));
    bench.user("ada", Role::Admin, None).await;
    bench.user("bound", Role::Admin, Some(&["berlin"])).await;
    for change in [
        ChangeUser { role: Some(Role::Operator), ..ChangeUser::default() },
        ChangeUser { tags: Some(Some(vec![])), ..ChangeUser::default() },
    ] {
        assert!(matches!(users.change(&of("ada"), change).await, Err(UserError::LastAdmin(_))));
    }
    assert!(matches!(users.delete(&of("ada")).await, Err(UserError::LastAdmin(_))));
    bench.access.tokens().revoke(&root, root_id).await.expect("ada is there");
    bench.user("grace", Role::Admin, None).await;
    users.delete(&of("ada")).await.expect("grace is there");
}

#[tokio::test]
async fn names_are_unique_and_users_come_in_their_order() {
    let bench = Bench::new();
    for name in ["grace", "ada"] {
        bench.user(name, Role::Viewer, Some(&["b", "a", "b"])).await;
    }
    let again = NewUser { name: of("ada"), password: None, role: Role::Admin, tags: None };
    assert!(matches!(bench.access.users().create(again).await, Err(UserError::NameTaken(_))));
    let listed = bench.access.users().list();
    assert_eq!(listed.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(), ["ada", "grace"]);
    assert_eq!(listed[0].tags, Some(vec!["a".into(), "b".into()]));
    assert!(!format!("{listed:?}").contains("argon2"));
    assert_eq!(bench.again().users().list(), listed);
    let nobody = ChangeUser { role: Some(Role::Admin), tags: None };
    assert!(matches!(bench.access.users().change(&of("eve"), nobody).await, Err(UserError::NoSuchUser(_))));
}

#[tokio::test]
async fn what_is_open_ends_with_the_credential_or_what_it_allows_and_with_nothing_else() {
    let bench = Bench::new();
    let root = bench.root().await;
    bench.user("ada", Role::Operator, None).await;
    let (session, _) = bench.session("ada").await;
    let (narrow, _) = bench.token(&session, spec(Some(Role::Viewer), None)).await.expect("less");
    let mut cx = Context::from_waker(Waker::noop());
    let (mut of_session, mut of_narrow, mut of_root) = (
        pin!(bench.access.ended(&session)),
        pin!(bench.access.ended(&narrow)),
        pin!(bench.access.ended(&root)),
    );
    assert_eq!(of_session.as_mut().poll(&mut cx), Poll::Pending);
    assert_eq!(of_narrow.as_mut().poll(&mut cx), Poll::Pending);
    assert_eq!(of_root.as_mut().poll(&mut cx), Poll::Pending);

    bench.user("grace", Role::Viewer, None).await;
    assert_eq!(of_session.as_mut().poll(&mut cx), Poll::Pending, "somebody else");
    bench.set("ada", Some(Role::Admin), None).await;
    assert_eq!(of_session.as_mut().poll(&mut cx), Poll::Ready(Ending::Changed));
    assert_eq!(of_narrow.as_mut().poll(&mut cx), Poll::Pending, "it allows what it did");
    bench.access.users().set_password(&of("ada"), "another password".into(), None).await.expect("good");
    let Credential::Token(id) = narrow.credential else { panic!("{narrow:?}") };
    bench.access.tokens().revoke(&root, id).await.expect("there");
    assert_eq!(of_narrow.as_mut().poll(&mut cx), Poll::Ready(Ending::Revoked));
    assert_eq!(of_root.as_mut().poll(&mut cx), Poll::Pending);
    assert_eq!(bench.access.ended(&session).await, Ending::Revoked, "its session went with the old password");
}

#[tokio::test]
async fn what_is_open_ends_when_its_credential_expires() {
    let bench = Bench::new();
    let root = bench.root().await;
    let living = TokenSpec { life: Some(Duration::from_secs(60)), ..spec(None, None) };
    let (operator, _) = bench.token(&root, living).await.expect("made");
    let mut records = bench.store.load().expect("readable");
    for token in &mut records.tokens {
        token.expires_at = token.expires_at.map(|_| now().after(Duration::from_millis(50)));
    }
    let access = Access::load(&mut records, Arc::clone(&bench.store));
    let ended = tokio::time::timeout(Duration::from_secs(10), access.ended(&operator)).await;
    assert_eq!(ended, Ok(Ending::Revoked));
}
