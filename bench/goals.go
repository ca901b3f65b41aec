package main

// A goal is one figure that the product is held to, and what was measured.
type goal struct {
	figure  string // what is measured
	want    string // "at least 0.50 x fasthttp, no-op"
	got     string // the ratio or figure with its spread, and the absolute figures behind it, for people
	met     bool
	command string // that measures it alone
}

// addGoal puts a goal into the table, in the order of the calls.
func (r *results) addGoal(g goal) { r.goals = append(r.goals, g) }
