package trade

import "fmt"

// NotProjected is the error of a projection that did not make every outcome visible. Those in neither list are visible
// and durable.
type NotProjected struct {
	// Refused are outcomes that the request store does not take, although it takes others. A repeat does not help before
	// somebody has changed the entries.
	Refused []Decision
	// Left are the others that may not be visible. They have to be projected again.
	Left []Decision
	// Err says why, for one of Left, or of Refused if none is left.
	Err error
}

// Error implements error.
func (e *NotProjected) Error() string {
	return fmt.Sprintf("cannot project %d outcomes, %d are refused: %v", len(e.Left), len(e.Refused), e.Err)
}

// Unwrap returns Err.
func (e *NotProjected) Unwrap() error { return e.Err }
