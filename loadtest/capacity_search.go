package loadtest

import "math"

const (
	stepUp    = 2.0  // factor while everything is sustained
	precision = 1.05 // how far apart the two ends may be
	maxSteps  = 40
)

// search finds the highest rate that try sustains (knee) and the lowest that it does not (beyond), less than 5 percent
// apart: it doubles the rate, then bisects. It tries a rate that is not sustained twice, because a short disturbance of
// the machine is no limit. beyond is 0 if the highest rate was sustained; knee is 0 if not even the lowest was.
func search(start, lowest, highest float64, try func(rate float64) (sustained bool, err error)) (knee,
	beyond float64, err error) {
	twice := func(rate float64) (bool, error) {
		ok, err := try(rate)
		if err != nil || ok {
			return ok, err
		}
		return try(rate)
	}
	rate := min(max(start, lowest), highest)
	for range maxSteps {
		ok, err := twice(rate)
		if err != nil {
			return knee, beyond, err
		}
		if ok {
			knee = rate
		} else {
			beyond = rate
		}
		switch {
		case knee >= highest, beyond > 0 && beyond <= lowest:
			return knee, beyond, nil
		case beyond == 0:
			rate = min(knee*stepUp, highest)
		case knee == 0:
			rate = max(beyond/stepUp, lowest)
		case beyond/knee <= precision:
			return knee, beyond, nil
		default:
			rate = math.Sqrt(knee * beyond)
		}
	}
	return knee, beyond, nil
}

// growth returns the slope of a series, in its unit per second, and the standard error of the slope.
func growth(points []Sample) (slope, deviation float64) {
	n := float64(len(points))
	if n < 3 {
		return 0, 0
	}
	var meanAt, mean float64
	for _, p := range points {
		meanAt += p.At / n
		mean += p.Value / n
	}
	var spread, both float64
	for _, p := range points {
		spread += (p.At - meanAt) * (p.At - meanAt)
		both += (p.At - meanAt) * (p.Value - mean)
	}
	if spread == 0 {
		return 0, 0
	}
	slope = both / spread
	var rest float64
	for _, p := range points {
		d := p.Value - mean - slope*(p.At-meanAt)
		rest += d * d
	}
	return slope, math.Sqrt(rest / (n - 2) / spread)
}
