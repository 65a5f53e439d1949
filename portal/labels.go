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

	// labelMove is the associated data of a sealed sign-in that waits for the
	// person to say whether to move here.
	labelMove = "anteroom/portal/move/v1"

	// labelMoveID separates the hash that names it on its page.
	labelMoveID = "anteroom/portal/move-id/v1"

	// labelMoved separates the hash of a used one, and is the prefix of the
	// store keys that remember it.
	labelMoved = "anteroom/portal/moved/v1"

	// labelLast is the associated data of the name of a browser's last sign-in.
	labelLast = "anteroom/portal/last/v1"

	// labelDevice is the associated data of the accounts that have signed in with a
	// browser.
	labelDevice = "anteroom/portal/device/v1"

	// labelDeviceID separates the hash that names an account in it.
	labelDeviceID = "anteroom/portal/device-id/v1"

	// labelAsk is the associated data of a sealed ask: what a site sends along
	// when it hands a browser to the portal.
	labelAsk = "anteroom/portal/ask/v1"

	// labelChallenge separates the hash of an attempt's verifier.
	labelChallenge = "anteroom/portal/challenge/v1"

	// labelCode is the associated data of what a one-time code stands for.
	labelCode = "anteroom/portal/code/v1"

	// labelCodeID separates the hash of a one-time code, and is the prefix of
	// the store keys that wait for it.
	labelCodeID = "anteroom/portal/code-id/v1"

	// labelNotice separates the hash of a provider's logout token, and is the
	// prefix of the store keys that remember it.
	labelNotice = "anteroom/portal/notice/v1"

	// labelNoticeMark separates the hash of an account whose sessions its provider
	// ended, and is the prefix of the store keys that say when.
	labelNoticeMark = "anteroom/portal/notice-mark/v1"

	// labelTicket is the associated data of what a ticket to a provider's sign-out
	// stands for.
	labelTicket = "anteroom/portal/ticket/v1"

	// labelTicketID separates the hash of such a ticket, and is the prefix of the
	// store keys that wait for it.
	labelTicketID = "anteroom/portal/ticket-id/v1"

	// labelAnswer is the associated data of a provider's answer that came as a form.
	labelAnswer = "anteroom/portal/answer/v1"

	// labelAnswerID separates the hash that names its cookie.
	labelAnswerID = "anteroom/portal/answer-id/v1"

	// labelMoveKeep is the associated data of what a source keeps of a sign-in that
	// waits for the person to say whether to move here.
	labelMoveKeep = "anteroom/portal/move-keep/v1"

	// labelMoveKeepID separates the hash of that sign-in, and is the prefix of the
	// store keys that hold it.
	labelMoveKeepID = "anteroom/portal/move-keep-id/v1"
)
