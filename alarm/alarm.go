// Package alarm tells people at once what they must not find out a week later: that somebody broke the glass, that somebody
// looks at more records than their work needs.
//
// Call New with the address of a webhook (or none), Raise for each event, and Close at the end. A nil *Alarm is legal and
// does nothing; so does the zero one.
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
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
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

// Alarm tells of events. It is made by New; its methods may be called from any goroutine.
type Alarm struct {
	now  func() time.Time
	log  *slog.Logger
	hook *hook // nil: none

	life   context.Context // of deliveries
	cancel context.CancelFunc
	wake   chan struct{} // one token: look at the queue again
	work   sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	queue   []*job
	running bool // the goroutine that sends
	closed  bool
}

var _ Raiser = (*Alarm)(nil)

// New checks the configuration and connects to nothing.
func New(c Config) (*Alarm, error) {
	a := &Alarm{now: c.Now, log: c.Logger, wake: make(chan struct{}, 1)}
	if a.now == nil {
		a.now = time.Now
	}
	if c.Webhook == "" && c.Token.text != nil {
		return nil, errors.New("preparing alarms: there is a token, but no webhook to send it to")
	}
	if c.Webhook != "" {
		var err error
		if a.hook, err = newHook(c); err != nil {
			return nil, fmt.Errorf("preparing alarms: %w", err)
		}
	}
	a.life, a.cancel = context.WithCancel(context.Background())
	return a, nil
}

// Sends reports whether there is a webhook.
func (a *Alarm) Sends() bool { return a != nil && a.hook != nil }

// Raise logs the event and sends it in the background.
func (a *Alarm) Raise(ctx context.Context, e Event) { a.RaiseThen(ctx, e, nil) }

// RaiseThen is Raise that calls done once when the event was delivered (nil) or given up (ErrDelivery): in the background,
// or before it returns when nothing can be sent. Without a webhook that is ErrNoWebhook.
func (a *Alarm) RaiseThen(ctx context.Context, e Event, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	if a == nil {
		done(ErrNoWebhook)
		return
	}
	e.tidy(a.time())
	a.logEvent(ctx, &e)
	if a.hook == nil {
		done(ErrNoWebhook)
		return
	}
	if err := a.enqueue(&job{event: e, done: done}); err != nil {
		a.giveUp(&e, err)
		done(err)
	}
}

// Deliver sends the event once, now, and does not log it. It is for events that were raised before.
func (a *Alarm) Deliver(ctx context.Context, e Event) error {
	if !a.Sends() {
		return ErrNoWebhook
	}
	e.tidy(a.time())
	return a.hook.post(ctx, &e)
}

// Close sends what waits, once each, for a few seconds at most. What was not taken by then is logged and given up.
func (a *Alarm) Close() error {
	if !a.Sends() {
		return nil
	}
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.nudge()
	last := time.AfterFunc(closeTimeout, a.cancel)
	defer last.Stop()
	a.work.Wait()
	a.cancel()
	return nil
}

func (a *Alarm) time() time.Time {
	if a.now == nil {
		return time.Now()
	}
	return a.now()
}

func (a *Alarm) logger() *slog.Logger {
	if a.log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return a.log
}

// logEvent writes everything but whose data it is about.
func (a *Alarm) logEvent(ctx context.Context, e *Event) {
	attrs := []slog.Attr{slog.String("alarm", e.Kind), slog.String("id", e.ID)}
	for _, f := range []struct{ name, value string }{
		{"ref", e.Ref}, {"site", e.Site}, {"source", e.Source}, {"who", e.Who}, {"roles", strings.Join(e.Roles, ",")}, {"rule", e.Rule}, {"reason", e.Reason},
	} {
		if f.value != "" {
			attrs = append(attrs, slog.String(f.name, f.value))
		}
	}
	if e.Count > 0 {
		attrs = append(attrs, slog.Int("count", e.Count))
	}
	if e.Limit > 0 {
		attrs = append(attrs, slog.Int("limit", e.Limit))
	}
	if !e.Until.IsZero() {
		attrs = append(attrs, slog.Time("until", e.Until.UTC()))
	}
	a.logger().LogAttrs(context.WithoutCancel(ctx), slog.LevelError, "ALARM: "+e.sentence(), attrs...)
}

func (a *Alarm) giveUp(e *Event, err error) {
	a.logger().Error("an alarm did not reach the webhook and is given up; see to it by hand", "alarm", e.Kind, "id", e.ID, "ref", e.Ref, "error", err)
}
