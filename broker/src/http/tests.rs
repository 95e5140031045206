use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::metrics::Kind;

#[derive(Default)]
struct Node {
    metrics: Metrics,
    health: Health,
    now_ms: AtomicU64,
}

impl Observed for Node {
    fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    fn health(&self) -> &Health {
        &self.health
    }
    fn monotonic_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }
    fn survey(&self) -> Option<Survey> {
        let broker = |id| crate::survey::SurveyedBroker { id, ..Default::default() };
        Some(Survey {
            controller: Some(1),
            brokers: vec![broker(1), broker(2)],
            partitions: vec![crate::survey::SurveyedPartition {
                topic: "t".to_owned(),
                leader: Some(1),
                replicas: vec![1, 2],
                isr: vec![1],
                min_insync_replicas: 1,
                ..Default::default()
            }],
            ..Survey::default()
        })
    }
    fn gauges(&self, detail: Detail) -> GaugesFuture<'_> {
        let mut out = Exposition::default();
        if detail == Detail::Partitions {
            out.one("varve_partition_high_watermark", Kind::Gauge, "x", 7.0);
        }
        Box::pin(std::future::ready(out))
    }
}

fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let status = answer.split(' ').nth(1).expect("a status").parse().expect("a number");
    (status, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

#[test]
fn the_port_tells_what_holds() {
    let node = Arc::new(Node::default());
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let observed = Arc::clone(&node) as Arc<dyn Observed>;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || serve(listener, observed, stopped));

        assert_eq!(ask(address, "/livez"), (200, "ok\n".to_owned()));
        let (status, body) = ask(address, "/readyz");
        assert_eq!(status, 503);
        assert!(body.contains("recovery: 0 of 0 segments"), "{body}");
        node.metrics.recovery.total.set(4);
        node.metrics.recovery.done.set(3);
        let (status, body) = ask(address, "/startupz");
        assert_eq!(status, 503);
        assert!(body.contains("\"segments_done\":3"), "{body}");
        assert!(body.contains("\"total\":4"), "{body}");

        node.metrics.recovery.finish();
        node.health.set_registered(true);
        node.health.set_listening(true);
        assert_eq!(ask(address, "/startupz").0, 200);
        assert_eq!(ask(address, "/readyz"), (200, "ready\n".to_owned()));
        assert!(ask(address, "/readyz?verbose").1.contains("\"ready\":true"));
        node.health.set_draining();
        assert_eq!(ask(address, "/readyz?verbose").0, 503);

        assert!(ask(address, "/metrics").1.contains("varve_build_info{"));
        assert!(ask(address, "/metrics/partitions").1.contains("varve_partition_high_watermark 7"));
        assert_eq!(ask(address, "/nothing").0, 404);

        let (status, body) = ask(address, "/v1/cluster/health");
        assert_eq!(status, 503);
        assert!(body.contains("1 partition is under-replicated"), "{body}");
        assert_eq!(ask(address, "/v1/brokers/1/safe-to-stop").0, 409);
        assert_eq!(ask(address, "/v1/brokers/2/safe-to-stop").0, 200);
        assert_eq!(ask(address, "/v1/brokers/3/safe-to-stop").0, 404);
        assert!(ask(address, "/v1/brokers").1.contains("\"state\":\"alive\""));
        assert!(
            ask(address, "/v1/partitions?state=under_replicated").1.contains("\"topic\":\"t\"")
        );
        assert_eq!(ask(address, "/v1/partitions?state=leaderless").1, "[]\n");
        assert_eq!(ask(address, "/v1/partitions?state=x").0, 400);

        node.metrics.runtime.last_beat_ms.set(1);
        node.now_ms.store(10_002, Ordering::Relaxed);
        assert_eq!(ask(address, "/healthz").0, 503);

        stop.send(()).expect("the server waits for it");
        server.join().expect("no panic").expect("served");
    });
}
