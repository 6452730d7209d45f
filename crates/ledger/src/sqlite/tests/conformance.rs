//! The suite, on threads; in place it runs for the sake of the plans.

use super::Folder;
use crate::conformance::run;

macro_rules! on_threads {
    ($($module:ident::$case:ident),* $(,)?) => {
        $(#[test]
        fn $case() {
            run(&Folder::new(), async |fixture: &Folder| crate::conformance::$module::$case(fixture).await);
        })*
    };
}

crate::for_each_conformance_case!(on_threads);

#[test]
fn every_case_of_the_suite_is_named_in_its_list() {
    macro_rules! count {
        ($($module:ident::$case:ident),* $(,)?) => { [$(stringify!($case)),*] };
    }
    let listed = crate::for_each_conformance_case!(count);
    let sources = [
        include_str!("../../conformance/commits.rs"),
        include_str!("../../conformance/consents.rs"),
        include_str!("../../conformance/contents.rs"),
        include_str!("../../conformance/coverage.rs"),
        include_str!("../../conformance/evidence.rs"),
        include_str!("../../conformance/handles.rs"),
        include_str!("../../conformance/hindrances.rs"),
        include_str!("../../conformance/history/mod.rs"),
        include_str!("../../conformance/identity.rs"),
        include_str!("../../conformance/leases.rs"),
        include_str!("../../conformance/notes.rs"),
        include_str!("../../conformance/sealed.rs"),
        include_str!("../../conformance/tenants.rs"),
        include_str!("../../conformance/tiles.rs"),
        include_str!("../../conformance/webhooks.rs"),
    ];
    let written: usize = sources.iter().map(|source| source.matches("\npub async fn ").count()).sum();
    // `lines` is a helper, not a case.
    assert_eq!(written, listed.len() + 1);
}
