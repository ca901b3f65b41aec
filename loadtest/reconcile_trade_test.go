package loadtest

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// A history is written as "VERSION FIELDS SENT-DONE ANSWER SHOWN; ...", with a letter for the fields and whole times.
// The requests are numbered from 1. "503+" and "200+" name a request id, as does 202; a 404 is shown when nothing is.
// Rows are "VERSION FIELDS; ...", with " #REQUEST OFFSET" from the tables, and journal rows are "#REQUEST VERSION
// FIELDS OFFSET STATUS REASON; ...".
var (
	postForm  = regexp.MustCompile(`^(\d+)(\w) (\d+)-(\d+) (\d+)(\+?)(?: (\w+)(?: (\w+))?)?$`)
	rowForm   = regexp.MustCompile(`^(\d+)(\w)(?: #(\d+) (\d+))?$`)
	entryForm = regexp.MustCompile(`^#(\d+) (\d+)(\w) (-|\d+) (\w+)(?: (\w+))?$`)
)

func parts(t *testing.T, form *regexp.Regexp, text string) (all [][]string) {
	t.Helper()
	for part := range strings.SplitSeq(text, ";") {
		if part = strings.TrimSpace(part); part != "" {
			fields := form.FindStringSubmatch(part)
			require.NotNil(t, fields, part)
			all = append(all, fields)
		}
	}
	return all
}

func num(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

func requestID(n string) trade.RequestID {
	return trade.RequestID{6: 0x70, 8: 0x80, 15: byte(num(n))}
}

func historyOf(t *testing.T, posts, rows, journal string) *history {
	t.Helper()
	h := &history{sql: strings.Contains(rows, "#") || journal != ""}
	for i, f := range parts(t, postForm, posts) {
		result := Result{Status: uint16(num(f[5]))}
		if result.Status == 202 || f[6] != "" {
			result.Request = requestID(strconv.Itoa(i + 1))
		}
		h.posts = append(h.posts, post{
			seq: uint64(i + 1), trade: trade.Trade{TradeID: "T", Version: int32(num(f[1]))}, content: uint64(f[2][0]),
			sent: time.Duration(num(f[3])), done: time.Duration(num(f[4])), status: result.Status, verdict: result.Verdict(),
			id:    result.Request,
			shown: shown{trade.Status(f[7]), trade.Code(f[8])},
		})
	}
	for _, f := range parts(t, rowForm, rows) {
		r := row{version: int32(num(f[1])), content: uint64(f[2][0])}
		if h.sql {
			r.id, r.at = requestID(f[3]), logPosition{1, 0, int64(num(f[4]))}
		}
		h.rows = append(h.rows, r)
	}
	for _, f := range parts(t, entryForm, journal) {
		e := entry{id: requestID(f[1]), version: int32(num(f[2])), content: uint64(f[3][0]),
			at: logPosition{1, 0, int64(num(f[4]))}, shown: shown{trade.Status(f[5]), trade.Code(f[6])}}
		if f[4] == "-" {
			e.at.offset, e.content = trade.NoOffset, 0
		}
		h.journal = append(h.journal, e)
	}
	return h
}

var violationNames = [...]string{lost: "lost", doubled: "doubled", stuck: "stuck", wrong: "wrong"}

// verdictsOf returns the findings as "lost: request 1, ...", with short names for ids.
func verdictsOf(h *history) (all []string) {
	for _, f := range h.judge() {
		text := f.text
		for n := range 10 {
			text = strings.ReplaceAll(text, requestID(strconv.Itoa(n)).String(), strconv.Itoa(n))
		}
		all = append(all, violationNames[f.kind]+": "+text)
	}
	return all
}

// Each line is one trade. Want lists a part of each finding, in order.
func TestJudgeByHTTP(t *testing.T) {
	f := func(posts, rows string, want ...string) {
		t.Helper()
		got := verdictsOf(historyOf(t, posts, rows, ""))
		require.Len(t, got, len(want), "%s | %s: %q", posts, rows, got)
		for i := range want {
			require.Contains(t, got[i], want[i], "%s | %s", posts, rows)
		}
	}
	// One request.
	f("1a 0-1 202 SUCCESS", "1a")
	f("1a 0-1 202", "1a", "lost: request 1, trade T version 1: answered 202, GET answers 404")
	f("1a 0-1 202 FAILED NOT_DELIVERED", "", "lost: request 1, trade T version 1: answered 202, ended NOT_DELIVERED")
	f("1a 0-1 202 SUCCESS", "", "lost: request 1, trade T version 1: ended SUCCESS, this version is not stored")
	f("1a 0-1 202 PENDING", "", "stuck: request 1")
	f("1a 0-1 202 PENDING", "1a", "stuck: request 1")
	f("1a 0-1 202 FAILED INVALID_RECORD", "", `wrong: request 1, trade T version 1: ended FAILED with reason `+
		`"INVALID_RECORD"`)
	f("1a 0-1 202 FAILED STALE_VERSION", "", "wrong: request 1, trade T version 1: ended FAILED STALE_VERSION, but "+
		"no higher version came first")
	f("1a 0-1 202 FAILED STALE_VERSION", "1a", "wrong: request 1")
	f("1a 0-1 202 SUCCESS", "1x", "wrong: trade T version 1 is stored, with fields that nobody sent")
	f("1a 0-1 202 SUCCESS", "1a; 2a", "doubled: trade T version 2 is stored, but nobody sent that version")

	// What may exist, and what can't.
	f("1a 0-1 0", "1a")
	f("1a 0-1 0", "")
	f("1a 0-1 0", "1x", "wrong: trade T version 1 is stored, with fields that nobody sent")
	f("1a 0-1 500", "1a")
	f("1a 0-1 503+ SUCCESS", "1a")
	f("1a 0-1 503+ SUCCESS", "", "lost: request 1")
	f("1a 0-1 503+ PENDING", "")
	f("1a 0-1 503+ PENDING", "1a")
	f("1a 0-1 503+", "")
	f("1a 0-1 503+", "1a", "wrong: trade T version 1 is stored, as sent by request 1, trade T version 1, which ended 404")
	f("1a 0-1 503+ FAILED NOT_DELIVERED", "")
	f("1a 0-1 503+ FAILED NOT_DELIVERED", "1a", "which ended FAILED NOT_DELIVERED")
	f("1a 0-1 503+ FAILED STALE_VERSION", "")
	f("1a 0-1 503+ FAILED INVALID_RECORD", "", "wrong: request 1")
	f("1a 0-1 503", "")
	f("1a 0-1 503", "1a", "wrong: trade T version 1 is stored, as sent by operation 1, which was refused with 503")
	f("1a 0-1 400", "")
	f("1a 0-1 400", "1a", "wrong: trade T version 1 is stored, as sent by operation 1, which was refused with 400")
	f("1a 0-1 400", "1x", "wrong: trade T version 1 is stored, with fields that nobody sent")
	f("1a 0-1 400", "2a", "doubled: trade T version 2")

	// The same version twice: the later one in the log stays.
	f("1a 0-1 202 SUCCESS; 1b 2-3 202 SUCCESS", "1b")
	f("1a 0-1 202 SUCCESS; 1b 2-3 202 SUCCESS", "1a",
		"wrong: trade T version 1 is stored, as sent by request 1, trade T version 1, but request 2, trade T version 1 "+
			"replaced it")
	f("1a 0-2 202 SUCCESS; 1b 1-3 202 SUCCESS", "1a") // they overlap
	f("1a 0-2 202 SUCCESS; 1b 1-3 202 SUCCESS", "1b")
	f("1a 0-1 202 SUCCESS; 1b 2-3 0", "1a")
	f("1a 0-1 202 SUCCESS; 1b 2-3 0", "1b")
	f("1a 0-1 0; 1b 2-3 202 SUCCESS", "1a") // it may be late
	f("1a 0-1 202 SUCCESS; 1b 2-3 202 PENDING", "1a", "stuck: request 2")
	f("1a 0-1 202 SUCCESS; 1b 2-3 400", "1a")
	f("1a 0-1 202 SUCCESS; 1b 2-3 400", "1b", "wrong: trade T version 1 is stored, as sent by operation 2, which was "+
		"refused with 400")
	f("1a 0-1 202 SUCCESS; 1a 2-3 202 SUCCESS", "1a") // the fields are the same
	f("1a 0-1 202 SUCCESS; 1b 2-3 202 SUCCESS", "", "lost: request 1", "lost: request 2")

	// Versions.
	f("1a 0-1 202 SUCCESS; 2b 2-3 202 SUCCESS", "1a; 2b")
	f("1a 0-1 202 SUCCESS; 2b 2-3 202 SUCCESS", "2b", "lost: request 1")
	f("2a 0-1 202 SUCCESS; 1b 2-3 202 FAILED STALE_VERSION", "2a")
	f("2a 0-1 202 SUCCESS; 1b 2-3 202 FAILED STALE_VERSION", "1b; 2a",
		"wrong: trade T version 1 is stored, as sent by request 2, trade T version 1, which ended FAILED STALE_VERSION")
	f("2a 0-1 202 SUCCESS; 1b 2-3 202 SUCCESS", "1b; 2a",
		"wrong: request 2, trade T version 1: ended SUCCESS, but version 2 was answered 202 before it was sent")
	f("2a 0-2 202 SUCCESS; 1b 1-3 202 SUCCESS", "1b; 2a") // they overlap
	f("2a 0-2 202 SUCCESS; 1b 1-3 202 FAILED STALE_VERSION", "2a")
	f("1a 0-1 202 FAILED STALE_VERSION; 2b 2-3 202 SUCCESS", "2b", "wrong: request 1") // the higher one came later
	f("1a 0-2 202 FAILED STALE_VERSION; 2b 1-3 202 SUCCESS", "2b")
	f("2a 0-1 0; 1b 2-3 202 FAILED STALE_VERSION", "2a")
	f("2a 0-1 0; 1b 2-3 202 FAILED STALE_VERSION", "") // as far as it can be known
	f("2a 0-1 503; 1b 2-3 202 FAILED STALE_VERSION", "", "wrong: request 2")
	f("2a 0-1 503+; 1b 2-3 202 FAILED STALE_VERSION", "", "wrong: request 2")
	f("2a 0-1 503+ FAILED NOT_DELIVERED; 1b 2-3 202 FAILED STALE_VERSION", "", "wrong: request 2")
	f("2a 0-1 400; 1b 2-3 202 FAILED STALE_VERSION", "", "wrong: request 2")
	f("3a 0-1 202 SUCCESS; 2b 2-3 202 FAILED STALE_VERSION; 1c 4-5 202 FAILED STALE_VERSION", "3a")
	f("3a 0-1 202 SUCCESS; 2b 2-3 202 FAILED STALE_VERSION; 1c 4-5 202 SUCCESS", "1c; 3a", "wrong: request 3")
	f("2a 0-1 202; 1b 2-3 202 SUCCESS", "1b", "lost: request 1")
	f("2a 0-1 202; 1b 2-3 202 FAILED STALE_VERSION", "2a", "lost: request 1")
	f("2a 0-1 202 SUCCESS; 1b 2-3 503+ SUCCESS", "1b; 2a", "wrong: request 2")
}

func TestJudgeByTheJournal(t *testing.T) {
	f := func(posts, rows, journal string, want ...string) {
		t.Helper()
		got := verdictsOf(historyOf(t, posts, rows, journal))
		require.Len(t, got, len(want), "%s | %s | %s: %q", posts, rows, journal, got)
		for i := range want {
			require.Contains(t, got[i], want[i], "%s | %s | %s", posts, rows, journal)
		}
	}
	two := "1a 0-1 202 SUCCESS; 1b 2-3 202 SUCCESS"
	one := "1a 0-1 202 SUCCESS"
	f(one, "1a #1 5", "#1 1a 5 SUCCESS")
	f(one, "1a #1 5", "", "lost: request 1, trade T version 1: shown as SUCCESS, the journal has no outcome")
	f(one, "1a #1 5", "#1 1a 5 SUCCESS; #1 1a 6 SUCCESS",
		"doubled: request 1, trade T version 1: has 2 outcomes in the journal")
	f(one, "1a #1 5", "#1 1a 5 FAILED STALE_VERSION",
		"wrong: request 1, trade T version 1: shown as SUCCESS, the journal says FAILED STALE_VERSION")
	f(one, "1a #1 5", "#1 1x 5 SUCCESS", "wrong: request 1, trade T version 1: the journal has it with other fields "+
		"than were sent")
	f(one, "1a #1 5", "#1 2a 5 SUCCESS", "wrong: request 1, trade T version 1: the journal has it as version 2")
	f(one, "1a #1 6", "#1 1a 5 SUCCESS", "wrong: request 1, trade T version 1: is the last in the log of its "+
		"version, at 1/0/5, but the row stems from request 1 at 1/0/6")
	f(one, "1a #7 5", "#1 1a 5 SUCCESS", "wrong: request 1")
	f("1a 0-1 202 PENDING", "", "#1 1a 5 SUCCESS", "stuck: request 1")
	f("1a 0-1 202 FAILED NOT_DELIVERED", "", "#1 1a - FAILED NOT_DELIVERED", "lost: request 1")
	f("1a 0-1 202 FAILED STALE_VERSION", "1a #1 5", "#1 1a 5 SUCCESS",
		"wrong: request 1, trade T version 1: ended FAILED STALE_VERSION")

	// Outcomes of requests that no answer named.
	f(one, "1a #2 6", "#1 1a 5 SUCCESS; #2 1a 6 SUCCESS",
		"doubled: request 2, trade T version 1: decided SUCCESS at 1/0/6, a copy of request 1")
	f(one, "1a #1 5", "#1 1a 5 SUCCESS; #2 1a 5 SUCCESS", "doubled: request 2")
	f("1a 0-2 202 SUCCESS; 1b 1-3 202 SUCCESS", "1b #2 5", "#1 1a 5 SUCCESS; #2 1b 5 SUCCESS",
		"doubled: request 2, trade T version 1: decided at 1/0/5, as was request 1")
	f(one+"; 1b 2-3 0", "1b #9 6", "#1 1a 5 SUCCESS; #9 1b 6 SUCCESS")
	f(one+"; 1b 2-3 0", "1a #1 6", "#1 1a 6 SUCCESS; #9 1b 5 SUCCESS") // there is no telling when an answer is missing
	f(one+"; 1b 2-3 0", "1b #8 7", "#1 1a 5 SUCCESS; #9 1b 6 SUCCESS; #8 1b 7 SUCCESS", "doubled: request 8")
	f(one+"; 1b 2-3 0", "1a #1 5", "#1 1a 5 SUCCESS; #9 1b - FAILED NOT_DELIVERED")
	f(one+"; 1b 2-3 0", "1a #1 5", "#1 1a 5 SUCCESS; #9 1b - FAILED NOT_DELIVERED; #8 1b - FAILED NOT_DELIVERED",
		"doubled: request 8")
	f(one+"; 1b 2-3 503", "1b #9 6", "#1 1a 5 SUCCESS; #9 1b 6 SUCCESS",
		"wrong: trade T version 1 is stored, as sent by operation 2",
		"wrong: request 9, trade T version 1: decided SUCCESS at 1/0/6, though operation 2 was refused with 503")
	f(one, "1a #1 5", "#1 1a 5 SUCCESS; #9 1x - FAILED NOT_DELIVERED",
		"doubled: request 9, trade T version 1: decided FAILED NOT_DELIVERED at 1/0/-1, but nobody sent it")

	// The order of the log.
	f(two, "1b #2 6", "#1 1a 5 SUCCESS; #2 1b 6 SUCCESS")
	f(two, "1b #2 5", "#1 1a 6 SUCCESS; #2 1b 5 SUCCESS",
		"wrong: request 2, trade T version 1: lies at 1/0/5, but request 1, trade T version 1, answered before it was "+
			"sent, at 1/0/6",
		"wrong: request 1, trade T version 1: is the last in the log")
	f("1a 0-2 202 SUCCESS; 1b 1-3 202 SUCCESS", "1a #1 6", "#1 1a 6 SUCCESS; #2 1b 5 SUCCESS")
	f("1a 0-2 202 SUCCESS; 1b 1-3 202 SUCCESS", "1b #2 5", "#1 1a 6 SUCCESS; #2 1b 5 SUCCESS", "wrong: request 1")
	f("2a 0-2 202 SUCCESS; 1b 1-3 202 SUCCESS", "1b #2 5; 2a #1 6", "#1 2a 6 SUCCESS; #2 1b 5 SUCCESS")
	f("2a 0-2 202 SUCCESS; 1b 1-3 202 SUCCESS", "1b #2 6; 2a #1 5", "#1 2a 5 SUCCESS; #2 1b 6 SUCCESS",
		"wrong: request 2, trade T version 1: decided SUCCESS at 1/0/6, the order of the log says FAILED STALE_VERSION")
	f("2a 0-2 202 SUCCESS; 1b 1-3 202 FAILED STALE_VERSION", "2a #1 6", "#1 2a 6 SUCCESS; #2 1b 5 FAILED STALE_VERSION",
		"wrong: request 2, trade T version 1: decided FAILED STALE_VERSION at 1/0/5, the order of the log says SUCCESS")
	f("2a 0-2 202 SUCCESS; 1b 1-3 202 FAILED STALE_VERSION", "2a #1 5", "#1 2a 5 SUCCESS; #2 1b 6 FAILED STALE_VERSION")

	h := historyOf(t, two, "1b #2 6", "#1 1a 5 SUCCESS; #2 1b 6 SUCCESS")
	h.journal[1].at.partition, h.rows[0].at.partition = 3, 3
	require.Equal(t, []string{"wrong: request 2, trade T: lies at 1/3/6, another record of the trade at 1/0/5"},
		verdictsOf(h))
}

func TestJudgeWhatCannotBe(t *testing.T) {
	h := historyOf(t, "1a 0-1 202 SUCCESS", "1a", "")
	h.posts[0].problem = "shown as SUCCESS, and later as FAILED STALE_VERSION"
	require.Equal(t, []string{"wrong: request 1, trade T version 1: shown as SUCCESS, and later as FAILED STALE_VERSION"},
		verdictsOf(h))
	h = historyOf(t, "1a 0-1 202 SUCCESS", "1a", "")
	h.posts[0].id = trade.RequestID{}
	require.Equal(t, []string{"wrong: operation 1, trade T version 1: answered 202 without a request id"}, verdictsOf(h))
	h = historyOf(t, "1a 0-1 202 SUCCESS; 1a 2-3 202 SUCCESS", "1a", "")
	h.posts[1].id = h.posts[0].id
	require.Equal(t, []string{"wrong: request 1, trade T version 1: operations 1 and 2, two calls, were answered " +
		"with this one request"}, verdictsOf(h))
	h = historyOf(t, "1a 0-1 202 SUCCESS", "", "")
	h.unreadable = "trade T shows version 1 behind version 2"
	require.Equal(t, []string{"wrong: trade T shows version 1 behind version 2"}, verdictsOf(h))
}
