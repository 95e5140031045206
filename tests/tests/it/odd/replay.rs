//! Sends the requests in their order, over as many connections as there were.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use varve_protocol::messages::DescribeGroupsRequest;
use varve_protocol::records::{BatchBuilder, Compression, NewRecord, patch_base_offset_and_epoch};
use varve_protocol::vocabulary::{LeaderEpoch, Offset};
use varve_tests::clock::wait_for;
use varve_tests::connection::Connection;

use super::corpus::{Recorded, Row, frames};
use super::facts::{Outcome, facts, fetched_batches};
use super::translate::Translation;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// After how long nothing is nothing: as long as the recording waited.
const SILENCE: Duration = Duration::from_millis(1_500);

/// Rows stand in the order of their answers. One request was sent before those in front of it:
/// the join that is answered when another member has left. By case: its place, and the place
/// behind which it was sent.
const SENT_EARLY: &[(u64, usize, usize)] = &[(240, 5, 0)];
/// Written in pieces of this many bytes.
const WRITTEN_IN_PIECES: (u64, usize) = (66, 7);

/// Before this case the recorder produced what that case's answer holds, by a client of its own.
const FILLED_BEFORE: (u64, &str) = (259, "odd-b");

/// Kafka stores the two records of this case, which varve refuses: two others are produced in
/// their place, so that later offsets can be compared.
const REPLACED_AFTER: (u64, &str) = (172, "odd-a");

/// A replay under way.
pub(super) struct Replay<'a> {
    address: SocketAddr,
    rows: &'a [Row],
    /// `None` once the broker has closed it.
    connections: HashMap<u64, Option<TcpStream>>,
    translation: Translation,
}

impl<'a> Replay<'a> {
    pub(super) fn new(address: SocketAddr, rows: &'a [Row]) -> Self {
        let translation = Translation::default();
        Self { address, rows, connections: HashMap::new(), translation }
    }

    /// Plays one row; answers what Kafka's answer says and what ours does.
    pub(super) fn step(&mut self, place: usize) -> (Outcome, Outcome) {
        let row = &self.rows[place];
        if (row.case, row.place) == (FILLED_BEFORE.0, 0) {
            self.fill(row);
        }
        let early =
            |row: &Row| SENT_EARLY.iter().find(|early| (early.0, early.1) == (row.case, row.place));
        if early(row).is_none() {
            self.send(row);
        }
        let outcomes = self.receive(row);
        if row.case == REPLACED_AFTER.0 {
            self.produce_two(REPLACED_AFTER.1);
        }
        for early in SENT_EARLY.iter().filter(|early| (early.0, early.2) == (row.case, row.place)) {
            self.send(&self.rows[place + early.1 - early.2]);
            self.wait_for_rebalance();
        }
        outcomes
    }

    /// The join that was sent early goes over another connection than what follows it.
    fn wait_for_rebalance(&self) {
        let mut connection = Connection::open(self.address).expect("the broker takes connections");
        let ask = DescribeGroupsRequest { groups: vec!["odd-g".to_owned()], ..Default::default() };
        wait_for("the rebalance of the join", ANSWER_LIMIT, || {
            let answer = connection.call(5, &ask).expect("an answer");
            (answer.groups[0].group_state == "PreparingRebalance").then_some(())
        });
    }

    /// Produces the batches that Kafka's answer to this fetch holds.
    fn fill(&self, row: &Row) {
        let Recorded::Frames(bytes) = &row.answer else { panic!("the fetch was answered") };
        let mut connection = Connection::open(self.address).expect("the broker takes connections");
        for batch in fetched_batches(&row.request, bytes) {
            let mut batch = batch.bytes().to_vec();
            patch_base_offset_and_epoch(&mut batch, Offset(0), LeaderEpoch(-1)).unwrap();
            let answer = connection.produce(FILLED_BEFORE.1, 0, batch.into()).unwrap();
            assert_eq!(answer.error_code, 0);
        }
    }

    fn produce_two(&self, topic: &str) {
        let mut connection = Connection::open(self.address).expect("the broker takes connections");
        let mut batch = BatchBuilder::new(Compression::None);
        for _ in 0..2 {
            batch.push(NewRecord { value: Some(b"x"), ..NewRecord::default() }).unwrap();
        }
        let answer = connection.produce(topic, 0, batch.build().unwrap()).unwrap();
        assert_eq!(answer.error_code, 0);
    }

    fn send(&mut self, row: &Row) {
        let bytes = self.translation.apply(&row.request);
        let address = self.address;
        let slot = self.connections.entry(row.connection).or_insert_with(|| {
            let stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT);
            Some(stream.expect("the broker takes connections"))
        });
        let Some(stream) = slot else { return };
        stream.set_nodelay(true).expect("an open socket");
        stream.set_write_timeout(Some(ANSWER_LIMIT)).expect("an open socket");
        let piece_bytes =
            if row.case == WRITTEN_IN_PIECES.0 { WRITTEN_IN_PIECES.1 } else { bytes.len().max(1) };
        for piece in bytes.chunks(piece_bytes) {
            if stream.write_all(piece).is_err() {
                *slot = None;
                return;
            }
        }
    }

    fn receive(&mut self, row: &Row) -> (Outcome, Outcome) {
        let requests = frames(&row.request).unwrap_or_default();
        let recorded = match &row.answer {
            Recorded::Frames(bytes) => frames(bytes).expect("Kafka's answers are frames"),
            Recorded::Closed => {
                return (
                    Outcome::Closed,
                    self.receive_one(row, requests.first(), None, ANSWER_LIMIT),
                );
            }
            Recorded::Silence => {
                return (Outcome::Silence, self.receive_one(row, requests.first(), None, SILENCE));
            }
        };
        let mut expected = Vec::new();
        for (place, frame) in recorded.iter().enumerate() {
            let request = &requests[place];
            expected.push(facts(request, frame));
        }
        let mut found = Vec::new();
        for (place, frame) in recorded.iter().enumerate() {
            found.push(self.receive_one(row, requests.get(place), Some(frame), ANSWER_LIMIT));
        }
        (Outcome::Several(expected), Outcome::Several(found))
    }

    fn receive_one(
        &mut self,
        row: &Row,
        request: Option<&Bytes>,
        recorded: Option<&Bytes>,
        limit: Duration,
    ) -> Outcome {
        let slot = self.connections.get_mut(&row.connection).expect("the request was sent");
        let Some(stream) = slot else { return Outcome::Closed };
        stream.set_read_timeout(Some(limit)).expect("an open socket");
        match read_frame(stream) {
            Ok(frame) => {
                let Some(request) = request else { return Outcome::Unreadable("an answer".into()) };
                if let Some(recorded) = recorded {
                    self.translation.learn(request, recorded, &frame);
                }
                facts(request, &frame)
            }
            Err(ErrorKind::WouldBlock | ErrorKind::TimedOut) => Outcome::Silence,
            Err(_) => {
                *slot = None;
                Outcome::Closed
            }
        }
    }
}

fn read_frame(stream: &mut TcpStream) -> Result<Bytes, ErrorKind> {
    let mut size = [0; 4];
    stream.read_exact(&mut size).map_err(|error| error.kind())?;
    let size = usize::try_from(i32::from_be_bytes(size)).map_err(|_| ErrorKind::InvalidData)?;
    let mut frame = Vec::new();
    stream.take(size as u64).read_to_end(&mut frame).map_err(|error| error.kind())?;
    match frame.len() == size {
        true => Ok(frame.into()),
        false => Err(ErrorKind::UnexpectedEof),
    }
}
