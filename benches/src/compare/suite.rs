//! The tests, one after the other.

use std::time::Duration;

use crate::Failure;
use crate::arguments::Arguments;
use crate::broker::Brokers;
use crate::load::{self, Outcome, Produce};
use crate::report::Figure;
use crate::{failover, restart, topics};

/// What was written is fetched, synced and forgotten before a broker is idle.
const IDLE_SETTLING: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(20);

/// Runs the chosen tests and returns their figures.
pub(crate) fn run<'a>(
    arguments: &'a Arguments,
    broker: &'a mut dyn Brokers,
) -> Result<Vec<Figure>, Failure> {
    let mut suite = Suite { arguments, broker, figures: Vec::new(), topics: Vec::new() };
    let tests: [(&str, Test<'a>); 11] = [
        ("idle", Suite::idle),
        ("throughput", Suite::throughput),
        ("small", Suite::small),
        ("single", Suite::single),
        ("fixed", Suite::fixed),
        ("fixed-cached", Suite::fixed_cached),
        ("paced", Suite::paced),
        ("e2e", Suite::end_to_end),
        ("many", Suite::many),
        ("restart", Suite::restart),
        ("failover", Suite::failover),
    ];
    for (name, test) in tests {
        if arguments.has(name) {
            eprintln!("{}: {name}", suite.broker.name());
            suite.broker.start()?;
            test(&mut suite)?;
            suite.delete_topics();
        }
    }
    suite.broker.discard()?;
    Ok(suite.figures)
}

type Config = [(&'static str, &'static str)];
type Test<'a> = fn(&mut Suite<'a>) -> Result<(), Failure>;

struct Suite<'a> {
    arguments: &'a Arguments,
    broker: &'a mut dyn Brokers,
    figures: Vec<Figure>,
    /// What the test under way has created.
    topics: Vec<String>,
}

impl Suite<'_> {
    fn work<'w>(&self, bootstrap: &'w str, topic: &'w str) -> Produce<'w> {
        Produce {
            bootstrap,
            topic,
            record_bytes: 1024,
            seconds: self.arguments.seconds,
            rate: None,
            linger_ms: 5,
            idempotent: true,
            unmeasured_seconds: 0,
            records_max: u64::MAX,
        }
    }

    /// Creates a topic with a replica on every broker.
    fn create(&mut self, topic: &str, partitions: i32, config: &Config) -> Result<(), Failure> {
        let replicas = i32::from(self.arguments.nodes);
        self.topics.push(topic.to_owned());
        topics::create(self.broker.bootstrap(), topic, partitions, replicas, config)
    }

    /// What a test wrote is not needed by the next; all of them would fill a disk.
    fn delete_topics(&mut self) {
        let topics = std::mem::take(&mut self.topics);
        if !topics.is_empty()
            && let Err(error) = topics::delete(self.broker.bootstrap(), &topics)
        {
            eprintln!("  {topics:?} stay until the end: {error}");
        }
    }

    /// Runs `work` and returns its outcome with the broker's processor time a gigabyte.
    fn measured(
        &self,
        work: impl FnOnce() -> Result<Outcome, Failure>,
    ) -> Result<(Outcome, f64), Failure> {
        let process = self.broker.processes();
        let before = process.cpu_seconds()?;
        let outcome = work()?;
        let used = process.cpu_seconds()? - before;
        let cost = used / outcome.gigabytes();
        eprintln!(
            "  {:.0} MB/s, {:.2} CPU s/GB of the broker",
            outcome.megabytes_per_second(),
            cost
        );
        Ok((outcome, cost))
    }

    fn idle(&mut self) -> Result<(), Failure> {
        let partitions = if self.arguments.nodes > 1 { 1_000 } else { 100 };
        self.create("idle", partitions, &[])?;
        let mut work = self.work(self.broker.bootstrap(), "idle");
        work.records_max = 1000;
        load::produce(&work)?;
        let (resident, _) = self.broker.processes().resident_mib()?;
        std::thread::sleep(IDLE_SETTLING);
        let before = self.broker.processes().cpu_seconds()?;
        std::thread::sleep(IDLE);
        let used = (self.broker.processes().cpu_seconds()? - before) / IDLE.as_secs_f64();
        let (held, busy) = match partitions {
            100 => ("idle, 100 partitions: resident", "idle, 100 partitions: of a core"),
            _ => ("idle, 1,000 partitions: resident", "idle, 1,000 partitions: of a core"),
        };
        self.figures.push(Figure::lower(held, "MiB", resident));
        self.figures.push(Figure::lower(busy, "%", used * 100.0));
        Ok(())
    }

    fn throughput(&mut self) -> Result<(), Failure> {
        let bootstrap = self.broker.bootstrap().to_owned();
        // A minute of full load would fill the disk; what it wrote is deleted as it grows.
        let short_lived = [("retention.bytes", "134217728"), ("segment.bytes", "67108864")];
        self.create("warm", 6, &short_lived)?;
        let mut warm = self.work(&bootstrap, "warm");
        warm.seconds = self.arguments.warm_seconds;
        load::produce(&warm)?;
        self.create("throughput", 6, &[])?;
        let (produced, cost) =
            self.measured(|| load::produce(&self.work(&bootstrap, "throughput")))?;
        let (_, anonymous) = self.broker.processes().resident_mib()?;
        let (_, read_cost) =
            self.measured(|| load::consume(&bootstrap, "throughput", produced.records))?;
        self.figures.extend([
            Figure::lower("produce 1 KiB: broker CPU", "s/GB", cost),
            Figure::higher("produce 1 KiB", "MB/s", produced.megabytes_per_second()),
            Figure::lower("produce 1 KiB: anonymous memory", "MiB", anonymous),
            Figure::lower("consume: broker CPU", "s/GB", read_cost),
        ]);
        Ok(())
    }

    fn small(&mut self) -> Result<(), Failure> {
        let bootstrap = self.broker.bootstrap().to_owned();
        self.create("small", 6, &[])?;
        let mut work = self.work(&bootstrap, "small");
        work.record_bytes = 100;
        let (_, cost) = self.measured(|| load::produce(&work))?;
        self.figures.push(Figure::lower("produce 100 B: broker CPU", "s/GB", cost));
        Ok(())
    }

    fn single(&mut self) -> Result<(), Failure> {
        let bootstrap = self.broker.bootstrap().to_owned();
        self.create("single", 1, &[])?;
        let (produced, cost) = self.measured(|| load::produce(&self.work(&bootstrap, "single")))?;
        self.figures.extend([
            Figure::lower("produce to one partition: broker CPU", "s/GB", cost),
            Figure::higher("produce to one partition", "MB/s", produced.megabytes_per_second()),
        ]);
        Ok(())
    }

    fn fixed(&mut self) -> Result<(), Failure> {
        let (p50, p99) = self.at_a_rate("fixed", &[])?;
        self.figures.push(Figure::lower("5,000/s acknowledged, synced: p50", "ms", p50));
        self.figures.push(Figure::lower("5,000/s acknowledged, synced: p99", "ms", p99));
        Ok(())
    }

    fn fixed_cached(&mut self) -> Result<(), Failure> {
        let (p50, p99) = self.at_a_rate("fixed-cached", self.broker.page_cache())?;
        self.figures.push(Figure::lower("5,000/s acknowledged, page cache: p50", "ms", p50));
        self.figures.push(Figure::lower("5,000/s acknowledged, page cache: p99", "ms", p99));
        Ok(())
    }

    /// 5,000 records a second, linger 1 ms. Not idempotent: librdkafka's idempotent producer
    /// spins while five batches wait, and starves a broker on the same cores.
    fn at_a_rate(&mut self, topic: &str, config: &Config) -> Result<(f64, f64), Failure> {
        let bootstrap = self.broker.bootstrap().to_owned();
        self.create(topic, 6, config)?;
        let mut work = self.work(&bootstrap, topic);
        (work.rate, work.linger_ms, work.idempotent) = (Some(5000), 1, false);
        (work.unmeasured_seconds, work.seconds) = (5, 5 + 2 * self.arguments.seconds);
        let (mut outcome, _) = self.measured(|| load::produce(&work))?;
        percentiles(&mut outcome)
    }

    /// 1,000 records a second, linger 0: what one record waits for.
    fn paced(&mut self) -> Result<(), Failure> {
        let bootstrap = self.broker.bootstrap().to_owned();
        self.create("paced", 6, &[])?;
        let mut work = self.work(&bootstrap, "paced");
        (work.rate, work.linger_ms, work.idempotent) = (Some(1000), 0, false);
        (work.unmeasured_seconds, work.seconds) = (5, 5 + 2 * self.arguments.seconds);
        let (mut outcome, _) = self.measured(|| load::produce(&work))?;
        let (p50, p99) = percentiles(&mut outcome)?;
        self.figures.push(Figure::lower("1,000/s acknowledged, synced: p50", "ms", p50));
        self.figures.push(Figure::lower("1,000/s acknowledged, synced: p99", "ms", p99));
        Ok(())
    }

    fn end_to_end(&mut self) -> Result<(), Failure> {
        let bootstrap = self.broker.bootstrap().to_owned();
        self.create("e2e", 6, self.broker.page_cache())?;
        let mut work = self.work(&bootstrap, "e2e");
        (work.rate, work.linger_ms, work.idempotent) = (Some(1000), 0, false);
        (work.unmeasured_seconds, work.seconds) = (5, 5 + self.arguments.seconds);
        let (mut outcome, _) = self.measured(|| load::end_to_end(&work))?;
        let (p50, p99) = percentiles(&mut outcome)?;
        self.figures.push(Figure::lower("end to end 1,000/s, page cache: p50", "ms", p50));
        self.figures.push(Figure::lower("end to end 1,000/s, page cache: p99", "ms", p99));
        Ok(())
    }

    /// 1,000 partitions against six, in the same minute: the disk's mood counts for both.
    fn many(&mut self) -> Result<(), Failure> {
        let bootstrap = self.broker.bootstrap().to_owned();
        self.create("few", 6, &[])?;
        self.create("many", 1000, &[])?;
        let mut few_work = self.work(&bootstrap, "few");
        few_work.linger_ms = 50;
        let mut many_work = self.work(&bootstrap, "many");
        many_work.linger_ms = 50;
        let (few, _) = self.measured(|| load::produce(&few_work))?;
        let (many, cost) = self.measured(|| load::produce(&many_work))?;
        let share = many.megabytes_per_second() / few.megabytes_per_second();
        self.figures.extend([
            Figure::higher("1,000 partitions", "MB/s", many.megabytes_per_second()),
            Figure::higher("1,000 partitions: share of what six reach", "", share),
            Figure::lower("1,000 partitions: broker CPU", "s/GB", cost),
        ]);
        Ok(())
    }

    fn restart(&mut self) -> Result<(), Failure> {
        let figure = restart::measure(
            self.broker,
            i32::from(self.arguments.nodes),
            self.arguments.restart_gigabytes,
        )?;
        self.figures.push(figure);
        Ok(())
    }

    fn failover(&mut self) -> Result<(), Failure> {
        if self.arguments.nodes < 3 {
            eprintln!("  left out: it takes --nodes 3");
            return Ok(());
        }
        self.create("failover", 1, &[("min.insync.replicas", "2")])?;
        let silences = failover::measure(self.broker, "failover", self.arguments.kills)?;
        let worst = silences.last().copied().ok_or("the leader was never killed")?;
        let median = silences[silences.len() / 2];
        self.figures.push(Figure::lower("leader killed: silence, p50", "ms", median));
        self.figures.push(Figure::lower("leader killed: silence, worst", "ms", worst));
        Ok(())
    }
}

fn percentiles(outcome: &mut Outcome) -> Result<(f64, f64), Failure> {
    let p50 = outcome.latencies.percentile_ms(0.5).ok_or("no latency was measured")?;
    let p99 = outcome.latencies.percentile_ms(0.99).ok_or("no latency was measured")?;
    eprintln!("  p50 {p50:.2} ms, p99 {p99:.2} ms");
    Ok((p50, p99))
}
