package rekey

// The store keys of this package. What lies there is no secret and is not sealed by us: ids, counts and times.
const (
	// labelJournal is the store key of the operation under way, or of the last one.
	labelJournal = "anteroom/rekey/operation/v1"
	// labelReport begins the store key of a report; "/" and the operation's id follow.
	labelReport = "anteroom/rekey/report/v1"
)
