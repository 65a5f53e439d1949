// Package alarm tells people at once what they must not find out a week later: that somebody broke the glass, that somebody
// looks at more records than their work needs.
//
// Call New with the address of a webhook (or none), Raise for each event, and Close at the end. A nil *Alarm is legal and
// does nothing; the zero one logs nowhere and sends nothing.
//
// What it promises:
//
//   - Raise never waits for the network and never fails: what it tells is told besides, and nobody's request hangs on it.
//   - Every event is logged at slog.LevelError before Raise returns, without whose data it is about: logs go to places where
//     no patient's number belongs.
//   - With a webhook, the event is POSTed as JSON in the background, several times when that fails. What could not be
//     delivered is logged, and told to the caller of RaiseThen, who may keep it and use Deliver later.
//   - At least once: an event may arrive twice when an answer is lost. Its "id" is the same, and so is the header
//     Idempotency-Key.
//   - It goes to the configured address or nowhere: https, or http on this machine, no redirects, ten seconds, nothing of
//     the answer is believed but its status. Neither the address (it may contain a secret) nor the token is ever logged.
//
// It trusts the webhook with usernames, roles and the patient's reference; never with the reason that somebody wrote.
//
// What is left to the caller: what must survive this process (package emergency keeps it in the store) and how often
// something is worth an alarm.
package alarm

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"
)

var (
	// ErrNoWebhook says that there is none: the log is all that was told.
	ErrNoWebhook = errors.New("no webhook is configured")
	// ErrDelivery says that the webhook did not take an event.
	ErrDelivery = errors.New("webhook did not take the alarm")
	// ErrRefused is an ErrDelivery that trying again does not mend: the webhook answered 3xx or 4xx.
	ErrRefused = errors.New("webhook refused the alarm")
)

// Config says where alarms go.
type Config struct {
	// Webhook is where events are POSTed: https, or http to 127.0.0.1, ::1 or localhost. Empty: they are only logged.
	Webhook string
	// Token is sent as Authorization: Bearer; the zero one is not sent.
	Token Secret
	// Client lends its Transport; nil means one of our own. Its other fields are not used.
	Client *http.Client
	// Logger gets the events; nil means nowhere.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Raiser is what users of an *Alarm need of it.
type Raiser interface {
	Raise(ctx context.Context, e Event)
}
