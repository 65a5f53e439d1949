package portal

// The labels of this package. Each is used for one purpose only: a sealed
// value or a stored key of one kind can never be taken for another kind.
const (
	// labelAttempt is the associated data of a sealed sign-in attempt.
	labelAttempt = "anteroom/portal/attempt/v1"

	// labelAttemptID separates the hash that names an attempt's cookie.
	labelAttemptID = "anteroom/portal/attempt-id/v1"

	// labelConsumed separates the hash of a used state, and is the prefix of
	// the store keys that remember it.
	labelConsumed = "anteroom/portal/consumed/v1"
)
