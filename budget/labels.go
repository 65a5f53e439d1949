package budget

// Every context in which this package seals, stores or hashes something.
const (
	// labelRecord begins the store key of one account's window, and is in its seal label.
	labelRecord = "anteroom/budget/window/v1"
	// labelValue is hashed with a value for the record, labelKnown with what this process knows.
	labelValue = "anteroom/budget/value/v1"
	labelKnown = "anteroom/budget/known/v1"
)
