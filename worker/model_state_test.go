package worker

import (
	"fmt"
	"slices"

	"tradestore/trade"
)

// rules says which rules of docs/design.md the model leaves out, to show that each of them is needed.
type rules struct {
	noDeadline  bool // C6: the server says 202 however late the acknowledgement is
	openAgain   bool // C3: an opening whose answer was lost is sent once more, and the record produced
	noWait      bool // R2: the end of the log is read as soon as the entry is seen
	shortWait   bool // R2: orphan_after is less than the accept deadline
	endAtSight  bool // R3: the end of the log is read before the wait, not after it
	noEnd       bool // R3: the position is not compared with the end of the log
	noLook      bool // R4: the closing transaction does not look for an outcome
	noDuplicate bool // A2: decided requests are not dropped
	noProject   bool // R1: an entry that has an outcome already is left alone
	noNote      bool // R1: an entry that lands late is not noted
	noWriters   bool // R1: the mark passes while a transaction still writes the entry
	earlyMark   bool // R1: the mark passes entries of an age that is not yet late
	version     [2]int32
}

const (
	deadline         = 2 // ticks from the arrival of the request; from then on no 202
	orphanAfter      = 3 // ticks since the entry was first seen; the first tick may follow at once, so one is lost
	shortOrphanAfter = 1
	lateAge          = 1 // ticks from the acceptance, on the clock of the request store; from then on an entry is noted
	markAge          = 2 // likewise; from then on the scan's mark may pass
	copies           = 2 // that the network makes of a record, at most; a producer that is idempotent allows fewer
)

// The two requests of one trade: the model follows the first from its arrival on, and writes the second to the log at
// any time, or never.
const (
	subject = iota
	bystander
)

type serverStage uint8

const (
	idle      serverStage = iota
	opening               // the PENDING entry was sent to the request store
	producing             // the record was handed to the producer
	over                  // the handler has answered
)

// status is what an answer, the journal or the request store says.
type status uint8

const (
	nothing status = iota
	accepted
	unknown // 503 with request id
	waiting // PENDING
	success
	stale
	notDelivered
)

func (s status) terminal() bool { return s >= success }

// reaper is what one orphan reaper knows of the subject. It is lost with its process.
type reaper struct {
	stage reaperStage
	age   uint8 // ticks since the entry was first seen
	end   uint8 // of the log, once read
}

type reaperStage uint8

const (
	unseen   reaperStage = iota
	observed             // the wait has begun
	endRead              // the end of the log is known
	decided              // the outcome is decided and has to be projected
	finished             // projected
)

// insertion is what a transaction of the request store found before it commits an entry.
type insertion uint8

const (
	noInsert insertion = iota
	timely
	late // the entry is noted
)

// model is a state of everything: comparable, and small.
type model struct {
	server    serverStage
	answer    status
	age       uint8  // ticks since the arrival; stays at the deadline
	opens     uint8  // copies of the PENDING entry under way to the request store
	again     bool   // the opening was repeated
	confirmed bool   // the request store's confirmation is under way
	sends     uint8  // copies of the record under way to the log
	copied    uint8  // copies that the network has made of the record
	acked     bool   // an acknowledgement is under way
	entry     status // in the request store

	entryAge uint8     // ticks from the acceptance on the clock of the request store, which may not be the server's
	insert   insertion // that has begun and is not committed
	passed   bool      // by the mark of the scan: the reapers find the entry only if it is noted
	missed   bool      // the entry was committed behind the mark and not noted

	log  [4]uint8 // 1 + the request of each record; 0 behind its end
	next uint8    // position, committed with the outcomes

	outcome [2]status // journal, by request
	decided [2]uint8  // rows in the journal, by request
	rows    [3]uint8  // 1 + the request whose payload is stored, by version
	closed  uint8     // position at which the orphan reaper closed the subject

	reapers [2]reaper // of two workers: a frozen one may still think that it owns the partition
	crashes uint8     // of processes with an orphan reaper
}

// step is one move of one party. It yields every state that the move can lead to.
type step func(r *rules, w model, yield func(what string, w model))

// Each party may also stay as it is for any time: that is a frozen process, a slow network, a crash.
var steps = []step{serve, network, commitEntry, passMark, acknowledge, apply, project, tick, reapOrphans, crash}

// end returns the end of the log.
func (w *model) end() uint8 {
	n := uint8(0)
	for int(n) < len(w.log) && w.log[n] != 0 {
		n++
	}
	return n
}

// serve is the accept path: open, produce, give up at the deadline.
func serve(r *rules, w model, yield func(string, model)) {
	switch {
	case w.server == idle:
		w.server, w.opens = opening, 1
		yield("server: sends the PENDING entry", w)
		w.entryAge = markAge
		yield("server: sends the PENDING entry, its clock is behind", w)
		return
	case w.server == over:
		return
	case w.server == opening && w.confirmed:
		next := w
		next.server, next.confirmed, next.sends = producing, false, 1
		yield("server: sends the record", next)
	case w.server == opening && r.openAgain && !w.again:
		next := w
		next.again, next.opens = true, next.opens+1
		yield("server: sends the PENDING entry again", next)
	}
	// A lost answer of the request store, a broken connection to the client, and the deadline look alike from outside.
	if w.server == opening || w.age >= deadline {
		w.server, w.answer = over, unknown
		yield("server: answers 503 with request id", w)
	}
}

// network delivers, loses and copies what is under way, at any time.
func network(r *rules, w model, yield func(string, model)) {
	if w.opens > 0 {
		lost := w
		lost.opens--
		lost.forgetAge()
		yield("network: loses the PENDING entry", lost)
		if w.insert == noInsert {
			begins := w
			begins.opens--
			begins.insert = timely
			if w.entryAge >= lateAge && !r.noNote {
				begins.insert = late
			}
			yield("request store: begins to insert the PENDING entry", begins)
		}
	}
	end := w.end()
	if w.sends > 0 {
		lost := w
		lost.sends--
		yield("network: loses the record", lost)
		lands := lost
		lands.log[end] = 1 + subject
		yield("log: takes the record, its acknowledgement is lost", lands)
		lands.acked = true
		yield("log: takes the record", lands)
		if w.copied < copies {
			w.copied, w.sends = w.copied+1, w.sends+1
			yield("network: copies the record", w)
		}
	}
}

// commitEntry commits an insertion, at any time after it began.
func commitEntry(_ *rules, w model, yield func(string, model)) {
	if w.insert == noInsert {
		return
	}
	w.missed = w.passed && w.insert == timely
	w.insert, w.entry = noInsert, waiting // a put in batches has no condition
	w.forgetAge()
	yield("request store: commits the PENDING entry, its answer is lost", w)
	w.confirmed = true
	yield("request store: commits the PENDING entry", w)
}

// landing says whether an entry may still appear. Afterwards the mark is of no consequence.
func (w *model) landing() bool { return w.opens > 0 || w.insert != noInsert }

// forgetAge forgets what no longer matters once no entry may appear: there are fewer states to visit.
func (w *model) forgetAge() {
	if !w.landing() {
		w.entryAge, w.passed = 0, false
	}
}

// passMark moves the mark of the scan past the acceptance of the subject. An entry that is visible by then has been
// found.
func passMark(r *rules, w model, yield func(string, model)) {
	old := w.entryAge >= markAge || r.earlyMark
	if w.landing() && old && (w.insert == noInsert || r.noWriters) {
		w.passed = true
		yield("orphan reaper: its mark passes", w)
	}
}

// acknowledge is the delivery callback. It also writes the bystander's record, whose accept path is not modelled.
func acknowledge(r *rules, w model, yield func(string, model)) {
	if w.acked && w.server == producing {
		next := w
		next.acked, next.server, next.answer = false, over, accepted
		if w.age >= deadline && !r.noDeadline {
			next.answer = unknown
		}
		yield("server: is told that the log has the record", next)
	}
	for _, of := range w.log {
		if of == 1+bystander {
			return
		}
	}
	w.log[w.end()] = 1 + bystander
	yield("log: takes the bystander's record", w)
}

// apply is the worker: any number of records in one transaction, decided by trade.Decide. Positions and outcomes commit
// together, and the fence lets one worker through, so the model needs only one.
func apply(r *rules, w model, yield func(string, model)) {
	for to := w.next + 1; to <= w.end(); to++ {
		var records []trade.Record
		for at := w.next; at < to; at++ {
			of := w.log[at] - 1
			records = append(records, trade.Record{Offset: int64(at), Request: trade.Request{
				ID: trade.RequestID{w.log[at]}, Trade: trade.Trade{TradeID: "T", Version: r.version[of]},
			}})
		}
		stored, decided := map[string]int32{}, map[trade.RequestID]struct{}{}
		for version, of := range w.rows {
			if of != 0 {
				stored["T"] = int32(version)
			}
		}
		for of, outcome := range w.outcome {
			if outcome != nothing && !r.noDuplicate {
				decided[trade.RequestID{uint8(of) + 1}] = struct{}{}
			}
		}
		plan := trade.Decide(records, stored, decided)
		next := w
		next.next = to
		for _, row := range slices.Concat(plan.Inserts, plan.Replaces) {
			next.rows[row.Trade.Version] = row.ID[0]
		}
		for _, d := range plan.Decisions {
			of := d.Record.ID[0] - 1
			next.outcome[of] = success
			if d.Reason == trade.StaleVersion {
				next.outcome[of] = stale
			}
			next.decided[of]++
		}
		yield(fmt.Sprintf("worker: applies offsets %d to %d", w.next, to-1), next)
	}
}

// project is the projector. It copies outcomes of records, at any time, or never.
func project(_ *rules, w model, yield func(string, model)) {
	if w.outcome[subject].terminal() && w.outcome[subject] != notDelivered {
		w.project("projector: shows the outcome", yield)
	}
}

// project shows the subject's outcome where the entry is PENDING (S1).
func (w model) project(what string, yield func(string, model)) {
	if w.entry == waiting {
		w.entry = w.outcome[subject]
	}
	yield(what, w)
}

// tick lets time pass for everyone. Ages that no longer matter stand still, so that the number of states is finite.
func tick(_ *rules, w model, yield func(string, model)) {
	if w.server != idle && w.age < deadline {
		w.age++
	}
	if w.landing() && w.entryAge < markAge {
		w.entryAge++
	}
	for i := range w.reapers {
		if f := &w.reapers[i]; f.stage == observed && f.age < orphanAfter {
			f.age++
		}
	}
	yield("time passes", w)
}

// reapOrphans is the rules R1 to R4, for each of two orphan reapers.
func reapOrphans(r *rules, w model, yield func(string, model)) {
	for i := range w.reapers {
		f := &w.reapers[i]
		switch f.stage {
		case unseen:
			observeOrphan(r, w, i, yield)
		case observed:
			wait := uint8(orphanAfter)
			if r.shortWait {
				wait = shortOrphanAfter
			}
			if f.age < wait && !r.noWait {
				continue
			}
			next := w
			n := &next.reapers[i]
			n.stage = endRead
			if !r.endAtSight {
				n.end = w.end()
			}
			yield("orphan reaper: reads the end of the log", next)
		case endRead:
			if w.next >= f.end || r.noEnd {
				closeOrphan(r, w, i, yield)
			}
		case decided:
			next := w
			next.reapers[i] = reaper{stage: finished}
			next.project("orphan reaper: shows the outcome", yield)
		case finished:
		}
	}
}

// observeOrphan is R1, up to the beginning of the wait.
func observeOrphan(r *rules, w model, i int, yield func(string, model)) {
	if w.entry != waiting || w.missed {
		return
	}
	if w.outcome[subject] != nothing {
		if !r.noProject {
			w.reapers[i].stage = decided
			yield("orphan reaper: finds an outcome", w)
		}
		return
	}
	w.reapers[i].stage = observed
	if r.endAtSight {
		w.reapers[i].end = w.end()
	}
	yield("orphan reaper: sees the entry for the first time", w)
}

// closeOrphan is R4: one transaction, under the lock that the worker takes first.
func closeOrphan(r *rules, w model, i int, yield func(string, model)) {
	w.reapers[i] = reaper{stage: decided}
	if w.outcome[subject] != nothing && !r.noLook {
		yield("orphan reaper: meets an outcome when closing", w)
		return
	}
	w.outcome[subject] = notDelivered
	w.decided[subject]++
	w.closed = w.next
	yield("orphan reaper: closes the request", w)
}

// crash loses what the orphan reapers know. The next ones start over.
func crash(_ *rules, w model, yield func(string, model)) {
	if w.crashes == 0 {
		w.reapers, w.crashes = [2]reaper{}, 1
		yield("orphan reapers: crash and start over", w)
	}
}
