package loadtest

import "time"

// Report is the result of a run and the content of report.json. Durations are in seconds, CPU in cores, memory in
// bytes.
type Report struct {
	Schema   int       `json:"schema"` // 1
	Verdict  string    `json:"verdict"`
	Why      []string  `json:"why,omitempty"`   // one sentence for each reason that the verdict is not PASS
	Notes    []string  `json:"notes,omitempty"` // what could not be measured, and other remarks
	Run      string    `json:"run"`             // begins every trade id of the run
	Seed     uint64    `json:"seed"`
	Started  time.Time `json:"started"`
	Took     float64   `json:"took_seconds"` // warm-up, drain and reconciliation included
	Target   string    `json:"target"`
	Stack    string    `json:"stack"` // what runs at the target, as far as it is known
	Machine  Machine   `json:"machine"`
	Build    Build     `json:"build"`
	Settings []Setting `json:"settings"`

	Load           Load           `json:"load"`
	Answers        []KindAnswers  `json:"answers"`
	Accept         Latency        `json:"accept_latency"` // of 202s, from their due time
	Sent           Latency        `json:"sent_latency"`   // the same from when they were sent: what a closed loop would measure
	Final          Latency        `json:"final_latency"`  // from the due time to the first read that showed the outcome
	Objectives     []Objective    `json:"objectives"`
	Reconciliation Reconciliation `json:"reconciliation"`
	Timeline       []Second       `json:"timeline"`
	Series         []Series       `json:"series"`
	Capacity       *Capacity      `json:"capacity,omitempty"`

	Interrupted string `json:"interrupted,omitempty"` // why the load ended before its time

	Folder string `json:"-"` // where Write put it; empty: not written
}

// The verdicts of a run.
const (
	Pass = "PASS"
	Fail = "FAIL"
	Void = "VOID" // the load was not the one asked for, so the run proves nothing
)

// Machine is where the generator ran.
type Machine struct {
	Host  string `json:"host,omitempty"`
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	OS    string `json:"os"`
}

// Build is the build of the generator; Server is that of the target, from its metrics if they have it.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	Server  string `json:"server,omitempty"`
}

// Setting is a flag of the run, secrets masked.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Load is what was asked for and what was sent, without the warm-up.
type Load struct {
	Generator string  `json:"generator"` // vegeta or light
	Schedule  string  `json:"schedule"`
	Warmup    float64 `json:"warmup_seconds"`
	Asked     uint64  `json:"asked"`    // operations due
	Sent      uint64  `json:"sent"`     // of them
	Attained  float64 `json:"attained"` // rate of sending over the rate asked for; below 0.99 the run is void
	Rate      float64 `json:"rate"`     // operations sent per second
	Accepted  float64 `json:"accepted"` // 202 per second
	Errors    float64 `json:"errors"`   // share of operations without the answer they must get, 503 included
	DelayP99  float64 `json:"delay_p99_seconds"`
	CPU       float64 `json:"cpu"` // of the generator

	Connections int `json:"connections"` // most that the load might use
	Cores       int `json:"cores"`       // most that the generator might use
}

// KindAnswers counts the answers to one kind of operation, with the warm-up, by "202", "400 STALE_VERSION" or "no
// answer".
type KindAnswers struct {
	Kind   string            `json:"kind"`
	Sent   uint64            `json:"sent"`
	Wrong  uint64            `json:"wrong"` // answers that this kind must not get
	Counts map[string]uint64 `json:"counts"`
}

// Latency describes a distribution, in seconds.
type Latency struct {
	Count  uint64  `json:"count"`
	Mean   float64 `json:"mean"`
	P50    float64 `json:"p50"`
	P90    float64 `json:"p90"`
	P95    float64 `json:"p95"`
	P99    float64 `json:"p99"`
	P999   float64 `json:"p999"`
	Max    float64 `json:"max"`
	Curve  []Quant `json:"curve,omitempty"` // for drawing
	Missed uint64  `json:"missed,omitempty"`
}

// Quant is a point of a percentile curve: a share of Q of all took at most Seconds.
type Quant struct {
	Q       float64 `json:"q"`
	Seconds float64 `json:"seconds"`
}

// Objective is a limit and the measured value. OK says whether it holds.
type Objective struct {
	Name  string `json:"name"`
	Flag  string `json:"flag"` // that sets the limit; empty: the limit is fixed
	Limit string `json:"limit"`
	Seen  string `json:"seen"`
	OK    bool   `json:"ok"`
}

// Reconciliation compares the answers with what GET shows and the tables hold after the drain.
type Reconciliation struct {
	By       string  `json:"by"`       // "HTTP" or "HTTP and SQL"
	Accepted uint64  `json:"accepted"` // 202s, warm-up included
	Success  uint64  `json:"success"`
	Failed   uint64  `json:"failed"`    // correctly: a higher version came first
	MayExist uint64  `json:"may_exist"` // POSTs whose answer leaves the effect open
	Rows     uint64  `json:"rows"`      // of trades that were compared
	Drain    float64 `json:"drain_seconds"`
	Took     float64 `json:"took_seconds"`

	Lost    Offenders `json:"lost"`    // accepted but missing: 404, NOT_DELIVERED, or SUCCESS without a row
	Doubled Offenders `json:"doubled"` // decided twice, or stored but never sent
	Stuck   Offenders `json:"stuck"`   // still PENDING at the end of the wait
	Wrong   Offenders `json:"wrong"`   // another outcome or content than the answers allow
}

// Offenders counts broken promises and names the first few.
type Offenders struct {
	Count uint64   `json:"count"`
	First []string `json:"first,omitempty"` // ids and what is wrong with them
}

// Second is one second of the run, by due time.
type Second struct {
	At       float64 `json:"at"`       // from the start, warm-up included
	Asked    float64 `json:"asked"`    // operations due per second
	Sent     float64 `json:"sent"`     // per second
	Accepted float64 `json:"accepted"` // per second
	Errors   float64 `json:"errors"`   // per second
	P50      float64 `json:"p50"`      // of the accept latency, in seconds
	P99      float64 `json:"p99"`
	Max      float64 `json:"max"`
}

// Series is a value measured once a second during the load.
type Series struct {
	Name   string   `json:"name"` // like "server CPU"
	Group  string   `json:"group"`
	Unit   string   `json:"unit"` // cores, bytes, records, seconds, items, requests
	Points []Sample `json:"points"`
}

// Sample is a value at a time in seconds from the start.
type Sample struct {
	At    float64 `json:"at"`
	Value float64 `json:"value"`
}

// Capacity is what --find-capacity found.
type Capacity struct {
	Knee      float64  `json:"knee"`      // highest sustained rate, operations per second
	Beyond    float64  `json:"beyond"`    // lowest rate that was not
	Saturated string   `json:"saturated"` // the first bottleneck, and how it is known
	Steps     []Step   `json:"steps"`
	Overload  Overload `json:"overload"`
}

// Step is one rate that was tried.
type Step struct {
	Rate        float64  `json:"rate"`
	Sustained   bool     `json:"sustained"`
	Why         []string `json:"why,omitempty"` // reasons that it was not
	Accepted    float64  `json:"accepted"`      // per second
	AcceptP99   float64  `json:"accept_p99_seconds"`
	FinalP99    float64  `json:"final_p99_seconds"`
	LagGrowth   float64  `json:"lag_growth"` // records per second
	Lost        uint64   `json:"lost"`
	CPU         []Usage  `json:"cpu"`
	Attained    float64  `json:"attained"`
	DrainedTook float64  `json:"drain_seconds"`
}

// Usage is the mean CPU of a process, in cores.
type Usage struct {
	Name  string  `json:"name"`
	Cores float64 `json:"cores"`
}

// Overload is what happened at a multiple of the knee, and after it.
type Overload struct {
	Rate     float64 `json:"rate"`
	Goodput  float64 `json:"goodput"`          // accepted per second
	Shed     float64 `json:"shed"`             // share of operations answered 503
	Recovery float64 `json:"recovery_seconds"` // from the end of the overload until the objectives hold again; -1: not within the wait
}
