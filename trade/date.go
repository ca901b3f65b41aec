package trade

import "time"

// Date is a UTC calendar day, counted from 1970-01-01 (day 0). Days before it are negative.
type Date int32

const secondsPerDay = 24 * 60 * 60

// DateOf returns the UTC day that contains t.
func DateOf(t time.Time) Date {
	s := t.Unix()
	d := s / secondsPerDay
	if s%secondsPerDay < 0 {
		d--
	}
	return Date(d)
}

// ParseDate reads exactly YYYY-MM-DD in ASCII digits: a day that exists, in the years 0001 to 9999.
// Year 0 is refused although Go knows it, because PostgreSQL would store it as 1 BC.
func ParseDate[T string | []byte](s T) (Date, bool) {
	if len(s) != 10 || s[4] != '-' || s[7] != '-' {
		return 0, false
	}
	var n [10]int // the digits, at their places in s
	for i := range n {
		if i == 4 || i == 7 {
			continue
		}
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n[i] = int(s[i] - '0')
	}
	year := n[0]*1000 + n[1]*100 + n[2]*10 + n[3]
	month := n[5]*10 + n[6]
	day := n[8]*10 + n[9]
	if year < 1 || month < 1 || month > 12 || day < 1 {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if t.Day() != day { // time.Date normalises 30 February to a day in March
		return 0, false
	}
	return DateOf(t), true
}

// Time returns midnight UTC at the start of d.
func (d Date) Time() time.Time { return time.Unix(int64(d)*secondsPerDay, 0).UTC() }

// Append writes d as YYYY-MM-DD to dst.
func (d Date) Append(dst []byte) []byte { return d.Time().AppendFormat(dst, time.DateOnly) }

// String returns d as YYYY-MM-DD.
func (d Date) String() string { return string(d.Append(make([]byte, 0, len(time.DateOnly)))) }
