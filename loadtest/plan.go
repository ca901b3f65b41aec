package loadtest

import (
	"math/bits"
	"net/http"
	"strconv"
	"time"

	"tradestore/trade"
)

const (
	tradesPath   = "/api/v1/trades"
	requestsPath = "/api/v1/requests/"

	// block is how many operations share the New ones that they refer to; see Plan.refer.
	block = 32
	// baseVersion is that of every New trade, so that there is room for lower ones.
	baseVersion = 10
)

// Plan says what each operation is: a function of its arguments and the number of the operation. So a run can be
// repeated, and the comparison can ask again what was sent. A Plan is immutable and safe for concurrent use.
type Plan struct {
	run        string
	key        uint64 // the seed, scrambled
	cumulative [Kinds]uint64
	lag        uint64
	first      uint64
	leis       []string
}

// NewPlan makes the plan of one attack. run is part of all trade ids: 1 to 40 letters, digits, dots and hyphens. An
// operation refers to one at least lag operations earlier; with those of about two seconds the earlier trade is usually
// stored. Operations count from 0 in each attack; first is the number used by earlier attacks and keeps trade ids
// apart.
func NewPlan(run string, seed uint64, mix Mix, lag, first uint64) *Plan {
	p := &Plan{run: run, key: scramble(seed + 1), lag: lag, first: first}
	sum := uint64(0)
	for kind, weight := range mix {
		sum += uint64(weight)
		p.cumulative[kind] = sum
	}
	p.leis = make([]string, counterparties)
	for i := range p.leis {
		p.leis[i] = lei(scramble(p.key ^ uint64(i)))
	}
	return p
}

// scramble is the finaliser of SplitMix64: numbers that differ in one bit give unrelated ones.
func scramble(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hash returns the random number of an operation, from which all its properties are derived.
func (p *Plan) hash(seq uint64) uint64 {
	const golden = 0x9e3779b97f4a7c15
	return scramble(p.key + (p.first+seq+1)*golden)
}

// drawKind draws the kind of an operation from the mix. refer turns it into New if there is nothing to refer to.
func (p *Plan) drawKind(seq uint64) Kind {
	draw, _ := bits.Mul64(p.hash(seq), p.cumulative[Kinds-1]) // the hash as a share of the total weight
	for kind, below := range p.cumulative {
		if draw < below {
			return Kind(kind)
		}
	}
	return New
}

// Kind returns what operation seq is. It costs less than Op.
func (p *Plan) Kind(seq uint64) Kind { return p.refer(seq).kind }

// TradeID returns the trade id that operation seq uses if it is New, Past or Bad.
func (p *Plan) TradeID(seq uint64) string {
	return string(p.appendNumber(append(make([]byte, 0, 64), "LT-"...), seq))
}

// Correlation returns the correlation id of operation seq: its trade id by TradeID without the "LT-".
func (p *Plan) Correlation(seq uint64) string {
	return string(p.appendNumber(make([]byte, 0, 64), seq))
}

// Prefix is the start of every trade id of the run.
func (p *Plan) Prefix() string { return "LT-" + p.run + "-" }

// appendNumber appends the name of operation seq, unique among all runs.
func (p *Plan) appendNumber(dst []byte, seq uint64) []byte {
	dst = append(append(dst, p.run...), '-')
	return strconv.AppendUint(dst, p.first+seq, 36)
}

// reference is the kind of an operation and what it refers to.
type reference struct {
	kind   Kind
	of     uint64
	rank   int32 // how many operations of the same kind refer to the same one before it
	shared bool  // with others of the same kind
}

// refer finds the New operation that seq refers to. The operations of a block share those drawn as New in a window of
// the same size, at least lag earlier; windows of two blocks do not overlap. Higher, Replace and Stale each have their
// own part of the window, and each operation has its own New one if there are enough. So only its base interferes with
// a stale version, and its answer is predictable. Reads may refer to any of them.
func (p *Plan) refer(seq uint64) reference {
	kind := p.drawKind(seq)
	fresh := reference{kind: New, of: seq}
	begin, back := seq-seq%block, p.lag+block-1
	switch {
	case !refers(kind):
		return reference{kind: kind, of: seq}
	case begin < back:
		return fresh
	}
	var news [block]uint64
	n := 0
	for s := begin - back; s < begin-back+block; s++ {
		if p.drawKind(s) == New {
			news[n] = s
			n++
		}
	}
	if n == 0 {
		return fresh
	}
	if kind.Reads() {
		return reference{kind: kind, of: news[scramble(p.hash(seq))%uint64(n)]}
	}
	// operations of the block: of the kinds before this one, of this one, of all three
	before, own, all, rank := 0, 0, 0, 0
	for s := begin; s < begin+block; s++ {
		switch k := p.drawKind(s); {
		case k != Higher && k != Replace && k != Stale:
			continue
		case k < kind:
			before++
		case k == kind:
			own++
			if s < seq {
				rank++
			}
		}
		all++
	}
	from := n * before / all // this kind's part of news
	bases := n*(before+own)/all - from
	if bases == 0 {
		return fresh
	}
	base := rank % bases
	return reference{kind: kind, of: news[from+base], rank: int32(rank / bases), shared: base+bases < own}
}

// The answers that each kind may get, by the API guide. Bad ones have theirs in their table.
var (
	accepted      = []int{http.StatusAccepted}
	acceptedOr4   = []int{http.StatusAccepted, http.StatusBadRequest}
	refused       = []int{http.StatusBadRequest}
	found         = []int{http.StatusOK}
	foundOrNotYet = []int{http.StatusOK, http.StatusNotFound}
)

// Op returns operation seq.
func (p *Plan) Op(seq uint64) Op {
	var op Op
	p.Fill(&op, seq)
	return op
}

// Fill sets op to operation seq and reuses its Body. Status is shared and must not be changed.
func (p *Plan) Fill(op *Op, seq uint64) {
	ref := p.refer(seq)
	*op = Op{Seq: seq, Kind: ref.kind, Of: ref.of, Method: http.MethodPost, Path: tradesPath, Body: op.Body[:0],
		ContentType: contentJSON}
	hash := p.hash(seq)
	if ref.kind == Bad {
		bad := &badBodies[scramble(hash)%uint64(len(badBodies))]
		op.Status, op.Code, op.ContentType = bad.status, bad.code, bad.contentType
		op.Body = append(op.Body, bad.before...)
		op.Body = p.appendNumber(append(op.Body, "LT-"...), seq)
		op.Body = append(op.Body, bad.after...)
		return
	}
	op.Trade = p.payload(hash, ref.kind)
	op.Trade.TradeID = p.TradeID(ref.of)
	op.Status = accepted
	switch ref.kind {
	case Higher:
		op.Trade.Version = baseVersion + 1 + ref.rank
		if ref.shared { // several versions are in flight at once, and the server may meet a later one first
			op.Status, op.Code = acceptedOr4, trade.StaleVersion
		}
	case Stale: // accepted if the base is not stored yet
		op.Trade.Version = 1 + int32(scramble(hash)%(baseVersion-1))
		op.Status, op.Code = acceptedOr4, trade.StaleVersion
	case Past:
		op.Status, op.Code = refused, trade.MaturityInPast
	case ReadTrade:
		op.read(tradesPath+"/"+op.Trade.TradeID, foundOrNotYet, notFound)
		return
	case ReadRequest:
		op.read(requestsPath, found, "")
		return
	default: // New and Replace are as they were drawn
	}
	op.Body = appendTrade(op.Body, &op.Trade)
}

// read makes op a GET of the trade or the request that it refers to.
func (op *Op) read(path string, status []int, code trade.Code) {
	op.Method, op.Path, op.Status, op.Code = http.MethodGet, path, status, code
	op.Body, op.ContentType = nil, ""
	op.Trade = trade.Trade{TradeID: op.Trade.TradeID, Version: baseVersion}
}

// appendTrade writes the body of a client. It does not use the encoder of the product, which is under test.
func appendTrade(dst []byte, t *trade.Trade) []byte {
	dst = append(append(dst, `{"trade_id":"`...), t.TradeID...)
	dst = strconv.AppendInt(append(dst, `","version":`...), int64(t.Version), 10)
	dst = append(append(dst, `,"counterparty_id":"`...), t.CounterpartyID...)
	dst = append(append(dst, `","book_id":"`...), t.BookID...)
	dst = t.MaturityDate.Append(append(dst, `","maturity_date":"`...))
	dst = t.CreatedDate.Append(append(dst, `","created_date":"`...))
	return append(dst, `"}`...)
}

const counterparties = 4096

var (
	desks      = [...]string{"RATES", "CREDIT", "FX", "EQD", "CMDTY", "REPO"}
	currencies = [...]string{"EUR", "USD", "GBP", "JPY", "CHF", "SEK", "NOK", "AUD"}
	books      = func() (all []string) {
		for _, desk := range desks {
			for _, currency := range currencies {
				for n := 1; n <= 12; n++ {
					all = append(all, desk+"-"+currency+"-"+strconv.Itoa(100 + n)[1:])
				}
			}
		}
		return all
	}()

	created = trade.DateOf(time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)) // and up to two years later
	matures = trade.DateOf(time.Date(2060, 1, 2, 0, 0, 0, 0, time.UTC)) // and up to thirty years later
	matured = trade.DateOf(time.Date(2001, 1, 2, 0, 0, 0, 0, time.UTC)) // and up to twenty years later
)

// lei makes an id like a Legal Entity Identifier (ISO 17442): 4 digits, 00, 12 letters and digits, 2 digits.
func lei(hash uint64) string {
	const digits, alphabet = 10, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	id := make([]byte, 20)
	for i := range id {
		base := uint64(digits)
		if i >= 6 && i < 18 {
			base = uint64(len(alphabet))
		}
		id[i] = alphabet[hash%base]
		hash = scramble(hash + 1)
	}
	id[4], id[5] = '0', '0'
	return string(id)
}

// payload draws the fields that no version rule reads. A Replace never equals what it replaces: only it matures an odd
// number of days after the first possible day.
func (p *Plan) payload(hash uint64, kind Kind) trade.Trade {
	a, b := scramble(hash^0xa5a5), scramble(hash^0x5a5a)
	t := trade.Trade{
		Version:        baseVersion,
		CounterpartyID: p.leis[a%counterparties],
		BookID:         books[(a>>32)%uint64(len(books))],
		MaturityDate:   matures + trade.Date(b%(30*365/2))*2,
		CreatedDate:    created + trade.Date((b>>32)%(2*365)),
	}
	if kind == Replace {
		t.MaturityDate++
	}
	if kind == Past {
		t.MaturityDate = matured + trade.Date(b%(20*365))
	}
	return t
}
