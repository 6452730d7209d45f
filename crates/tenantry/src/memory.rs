//! Keeps resident memory flat: the program starts itself over with two memory arenas where glibc would use sixteen.
//!
//! glibc gives every thread an arena of its own, up to eight for each CPU, and what a thread has freed stays in its arena.
//! The writers of commits run now on this thread and now on that one, so that every arena grows to what one commit takes:
//! with two CPUs, 500,000 records take 250 MiB that go on growing, and 155 MiB that stay, at the same CPU time. glibc reads
//! the number from the environment before `main` and offers no other way that is safe code. Never changes what an operator
//! has set, and never keeps the program from running: where it cannot start over, it goes on.

/// What glibc reads at the start of a program.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const VARIABLES: [&str; 2] = ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"];
/// Two, so that threads hardly ever wait for each other.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: &str = "2";

/// Starts the program over in the same process, unless that has been done or the operator has chosen for himself. To be
/// called before anything else: what is open or running by then is lost.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn settle() {
    use std::os::unix::process::CommandExt as _;

    if VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut words = std::env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    // It only comes back when it has failed; the program runs without it as well.
    let _ = command.args(words).env(VARIABLES[0], ARENAS).exec();
}

/// Other allocators do not need it.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn settle() {}
