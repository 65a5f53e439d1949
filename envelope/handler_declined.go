package envelope

import (
	"context"
	"strings"

	"github.com/anteroom-proxy/anteroom/audit"
)

// declined are the items of a batch that do not open, by reason.
type declined map[string]denial

func (d *declined) add(err error, content []byte) {
	if *d == nil {
		*d = declined{}
	}
	reason := refusalFor(err).reason
	one := (*d)[reason]
	one.count++
	one.key, _ = KeyOf(content)
	(*d)[reason] = one
}

func (d declined) count() (n int) {
	for _, one := range d {
		n += one.count
	}
	return n
}

// recordDeclined writes one event for each reason: so many events at most as requests and reasons, whatever a batch holds.
func (c *call) recordDeclined(d declined) error {
	for reason, one := range d {
		c.service.cfg.Limits.counts.count(c.operation(), "", reason, one.count)
		c.key.Store(&one.key)
		if err := c.record("denied", reason, audit.NewRef(), one.count); err != nil {
			return err
		}
	}
	if len(d) > 0 {
		c.service.cfg.Logger.Info("envelope service: values do not open", "items", d.count())
	}
	return nil
}

// recordAllowed writes that so many items were answered.
func (c *call) recordAllowed(count int) error {
	op := c.operation()
	if count == 0 && (op == "open" || op == "reseal") {
		c.service.cfg.Limits.counts.count(op, "denied", "", 0)
		return nil // each is recorded as one that does not open
	}
	if err := c.record("allowed", "", audit.NewRef(), count); err != nil {
		return err
	}
	c.service.cfg.Limits.counts.count(op, "allowed", "", 0)
	return nil
}

// operation names the endpoint in counters: "seal", "stream-open".
func (c *call) operation() string {
	last, ok := strings.CutPrefix(c.route(), ServicePath+"/v1/")
	if !ok {
		return "other"
	}
	return strings.ReplaceAll(last, "/", "-")
}

// noting is a vault that notes which key a sealed document key names, for the event.
type noting struct {
	Vault
	call *call
}

func (n noting) note(sealed []byte) {
	key, _ := KeyOf(sealed)
	n.call.key.Store(&key)
}

// Open implements Vault.
func (n noting) Open(ctx context.Context, label string, sealed []byte) ([]byte, error) {
	n.note(sealed)
	return n.Vault.Open(ctx, label, sealed)
}

// Reseal implements Vault.
func (n noting) Reseal(ctx context.Context, label string, sealed []byte) ([]byte, bool, error) {
	n.note(sealed)
	return n.Vault.Reseal(ctx, label, sealed)
}
