package loadtest

import (
	"fmt"
	"strconv"
	"strings"
)

// kindNames are the names of the kinds, in settings and reports.
var kindNames = [Kinds]string{
	New: "new", Higher: "higher", Replace: "replace", Stale: "stale", Past: "past", Bad: "bad",
	ReadTrade: "read-trade", ReadRequest: "read-request",
}

// String returns the name of the kind in settings and reports.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// Reads says whether operations of this kind are GETs.
func (k Kind) Reads() bool { return k == ReadTrade || k == ReadRequest }

// Mix is the weight of each kind among all operations. Only the ratios count.
type Mix [Kinds]uint32

// DefaultMix resembles a busy day: mostly new trades, some amended, a few mistakes, and reads.
var DefaultMix = Mix{New: 69, Higher: 5, Replace: 5, Stale: 3, Past: 1, Bad: 2, ReadTrade: 10, ReadRequest: 5}

const maxWeight = 1_000_000

// ParseMix reads weights like "new=70,higher=10,read-trade=20"; other kinds have weight 0. A mix with kinds that refer
// to an earlier new trade must have new trades.
func ParseMix(text string) (Mix, error) {
	var mix Mix
	var seen [Kinds]bool
	for part := range strings.SplitSeq(text, ",") {
		name, weight, ok := strings.Cut(strings.TrimSpace(part), "=")
		kind, known := kindNamed(strings.TrimSpace(name))
		switch {
		case !ok || !known:
			return Mix{}, fmt.Errorf("mix: %q is not KIND=WEIGHT: the kinds are %s", part, strings.Join(kindNames[:], ", "))
		case seen[kind]:
			return Mix{}, fmt.Errorf("mix: %s is there twice", kind)
		}
		n, err := strconv.ParseUint(strings.TrimSpace(weight), 10, 32)
		if err != nil || n > maxWeight {
			return Mix{}, fmt.Errorf("mix: the weight of %s is %q, and not a whole number from 0 to %d", kind, weight, maxWeight)
		}
		mix[kind], seen[kind] = uint32(n), true
	}
	if mix.total() == 0 {
		return Mix{}, fmt.Errorf("mix %q has no weight: the kinds are %s", text, strings.Join(kindNames[:], ", "))
	}
	for kind := range Kinds {
		if mix[kind] > 0 && mix[New] == 0 && refers(Kind(kind)) {
			return Mix{}, fmt.Errorf("mix: %s refers to an earlier new trade, so new needs a weight as well", Kind(kind))
		}
	}
	return mix, nil
}

func kindNamed(name string) (Kind, bool) {
	for kind, known := range kindNames {
		if name == known {
			return Kind(kind), true
		}
	}
	return 0, false
}

// refers says whether operations of this kind are about an earlier New one.
func refers(k Kind) bool { return k != New && k != Past && k != Bad }

func (m Mix) total() (sum uint64) {
	for _, weight := range m {
		sum += uint64(weight)
	}
	return sum
}

// String returns the mix in the form that ParseMix reads, without the kinds that have no weight.
func (m Mix) String() string {
	var parts []string
	for kind, weight := range m {
		if weight > 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", Kind(kind), weight))
		}
	}
	return strings.Join(parts, ",")
}
