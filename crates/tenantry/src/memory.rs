//! Keeps resident memory flat and the allocator cheap: the program starts itself over with one memory arena where glibc would
//! use sixteen, and with large pieces of memory kept out of it.
//!
//! glibc gives every thread an arena of its own, up to eight for each CPU, and what a thread has freed stays in its arena.
//! The writers of commits run now on this thread and now on that one, so that every arena grows to what one commit takes:
//! with two CPUs, 500,000 records take 250 MiB that go on growing; with two arenas 110 to 127 MiB, with one 103 to 115, at the
//! same CPU time. Threads seldom wait for each other there: small pieces come from each thread's own store, large ones from
//! the kernel.
//!
//! The first large piece that is freed makes glibc take all further ones, up to 32 MiB, from the arena as well, where they
//! leave holes: another 25 MiB, and a tenth of all CPU time for finding room between them. A fixed limit keeps them apart.
//!
//! glibc reads both numbers from the environment before `main` and offers no other way that is safe code. Never changes what an operator
//! has set, and never keeps the program from running: where it cannot start over, it goes on.

/// What glibc reads at the start of a program, and what it finds there: how many arenas, and the bytes from which on a piece has
/// pages of its own, the value it begins with.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const SETTINGS: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "1"), ("MALLOC_MMAP_THRESHOLD_", "131072")];
/// Whoever sets this knows what he does.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Starts the program over in the same process, unless that has been done or the operator has chosen for himself. To be
/// called before anything else: what is open or running by then is lost.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn settle() {
    use std::os::unix::process::CommandExt as _;

    let is_set = |name: &str| std::env::var_os(name).is_some();
    if is_set(TUNABLES) || SETTINGS.iter().any(|(name, _)| is_set(name)) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut words = std::env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    // It only comes back when it has failed; the program runs without it as well.
    let _ = command.args(words).envs(SETTINGS).exec();
}

/// Other allocators do not need it.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn settle() {}
