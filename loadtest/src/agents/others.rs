//! Whatever goes on beside check-ins: flags, traffic, agents that are told to vanish.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::ANSWER_TIMEOUT;
use super::operator::Operator;
use super::options::Options;
use super::result::Tunnels;
use super::stage::Stage;
use super::tunnels::Carrying;
use super::wake::Wakes;
use super::worker::Order;

/// Whatever goes on beside check-ins.
pub struct Others {
    /// What happened to flags.
    pub wakes: Arc<Wakes>,
    /// What streams carried.
    pub carrying: Arc<Carrying>,
    tasks: JoinSet<()>,
    /// Nothing new is begun.
    stop: CancellationToken,
    /// What is under way is cut.
    over: CancellationToken,
    patience: Duration,
}

impl Others {
    /// Begins what the options ask for, of a measurement from `begin` to `end`.
    pub fn start(
        stage: &Stage,
        options: &Options,
        operator: Option<&Operator>,
        tunnels: Option<&(Tunnels, Vec<u32>)>,
        orders: mpsc::Sender<Order>,
        begin: Duration,
        end: Duration,
    ) -> Self {
        let (wakes, carrying) = (Arc::clone(&stage.wakes), Arc::<Carrying>::default());
        let mut tasks = JoinSet::new();
        let (stop, over) = (CancellationToken::new(), CancellationToken::new());
        let (plan, epoch) = (stage.common.plan, stage.common.epoch);
        let length = end.saturating_sub(begin);
        if let (Some(rate), Some(operator)) = (options.wake, operator) {
            let schedule = plan.wakes(rate, length).into_iter().map(|(at, agent)| (begin + at, agent));
            let (wakes, over) = (Arc::clone(&wakes), over.clone());
            tasks.spawn(wakes.run(operator.clone(), epoch, plan.interval(), schedule.collect(), over));
        }
        if let (Some((_, agents)), Some(operator)) = (tunnels, operator) {
            let some = agents.iter().copied().take(usize::try_from(options.carrying).unwrap_or(0)).collect();
            tasks.spawn(Arc::clone(&carrying).run(operator.clone(), some, stop.clone()));
        }
        if let Some(rate) = options.churn {
            let (schedule, stop) = (plan.vanishings(rate, length), stop.clone());
            tasks.spawn(async move {
                for (at, agent, way) in schedule {
                    tokio::select! {
                        () = sleep_until(epoch + begin + at) => {}
                        () = stop.cancelled() => return,
                    }
                    if orders.send(Order::Vanish(agent, way)).await.is_err() {
                        return;
                    }
                }
            });
        }
        let patience = 2 * plan.interval() + ANSWER_TIMEOUT;
        Self { wakes, carrying, tasks, stop, over, patience }
    }

    /// Ends traffic and churn, waits for wakes that are under way, and cuts what is left.
    pub async fn end(&mut self, interrupted: bool) {
        self.stop.cancel();
        let patience = if interrupted { Duration::ZERO } else { self.patience };
        if timeout(patience, self.all_end()).await.is_err() {
            self.over.cancel();
            self.all_end().await;
        }
    }

    async fn all_end(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}
