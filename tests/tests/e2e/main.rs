//! End-to-end tests of Tidegate on real processes, one story a file. They need the two binaries
//! (`cargo build -p gateway -p edge-agent`) and, some of them, programs of Debian, which they name when one is missing.

mod audit;
mod breaks;
mod browse;
mod bulk;
mod cluster;
mod connect_proxy;
mod contract;
mod crash;
mod credentials;
mod docker;
mod docker_clients;
mod doctor;
mod enrolment;
mod herd;
mod idle;
mod join;
mod kills;
mod login;
mod model;
mod openssh;
mod operations;
mod operator;
mod operator_ssh;
mod page;
mod people;
mod postgres;
mod proxy;
mod restarts;
mod settings;
mod stalled;
mod stock_agent;
mod streams;
mod telemetry;
mod terminal;
mod trust;
