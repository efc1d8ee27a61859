//! Both machines against each other: the gateway's registry and the agents' lifecycles, joined by a network that loses
//! messages, breaks and heals, on machines that are killed and come back. No process, no clock: hours pass in
//! milliseconds, and a seed repeats a run to the letter.
//!
//! What must hold, whatever happens: an edge never has two live links; no credentials let in twice; every waiter is
//! answered once, and in time; where nothing was broken for a while, it gets its stream; an agent whose tunnel was in use
//! is back within two seconds of its network; a tunnel with a stream in it
//! is closed by nobody; and once operators are gone, every tunnel closes, on both sides, and every flag is down.

mod world;

use std::time::{Duration, Instant};

use world::{Plan, World};

/// Runs `seeds` worlds of an hour each and says how many events that were.
fn run(seeds: std::ops::Range<u64>, plan: Plan) -> u64 {
    let mut events = 0;
    for seed in seeds {
        let mut world = World::new(seed, plan);
        world.live(Duration::from_secs(3600));
        world.come_to_rest();
        events += world.events();
    }
    events
}

#[test]
fn one_agent_through_faults_of_every_kind_keeps_the_rules() {
    let started = Instant::now();
    let events = run(0..200, Plan { agents: 1, faults: true });
    println!("{events} events in {:?}", started.elapsed());
    assert!(events > 100_000, "the worlds are too quiet to show anything: {events} events");
}

#[test]
fn cluster_of_three_through_faults_of_every_kind_keeps_the_rules() {
    let started = Instant::now();
    let events = run(1000..1120, Plan { agents: 3, faults: true });
    println!("{events} events in {:?}", started.elapsed());
    assert!(events > 100_000, "the worlds are too quiet to show anything: {events} events");
}

#[test]
fn without_faults_nobody_ever_waits_in_vain() {
    for agents in [1, 3] {
        run(2000..2050, Plan { agents, faults: false });
    }
}
