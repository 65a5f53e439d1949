package caddymodule

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// EnvelopeLimit bounds the work of one tenant's service.
type EnvelopeLimit struct {
	// Bytes that may be sealed and opened each second, of values, and as many of streams. At least 65536.
	Rate int64 `json:"rate"`
	// Bytes that may be spent at once after a pause. Default: as many as a second brings.
	Burst int64 `json:"burst,omitempty"`
}

var errEnvelopeLimit = errors.New("limit wants bytes per second, from 64KiB to 1024GiB, and, if you like, a burst: limit 64MiB burst 256MiB")

// check is what can be said of the numbers alone. No limit is none.
func (l *EnvelopeLimit) check() error {
	if l == nil {
		return nil
	}
	if l.Rate == 0 {
		return errEnvelopeLimit
	}
	if _, err := envelope.NewLimits(l.Rate, l.Burst, nil); err != nil {
		return errEnvelopeLimit
	}
	return nil
}

// numbers are the configured ones, 0 for no limit.
func (l *EnvelopeLimit) numbers() (rate, burst int64) {
	if l == nil {
		return 0, 0
	}
	return l.Rate, l.Burst
}

// limitLine reads
//
//	limit BYTES_PER_SECOND [burst BYTES]
func (s *EnvelopeService) limitLine(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 && (len(args) != 3 || args[1] != "burst") {
		return d.WrapErr(errEnvelopeLimit)
	}
	s.Limit = new(EnvelopeLimit)
	for i, target := range []*int64{&s.Limit.Rate, &s.Limit.Burst} {
		if 2*i >= len(args) {
			break
		}
		n, err := parseBytes(args[2*i])
		if err != nil || n < 1 {
			return d.Errf("limit %s: %w", args[2*i], errEnvelopeLimit)
		}
		*target = n
	}
	if err := s.Limit.check(); err != nil {
		return d.Errf("limit %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// parseBytes reads a number of bytes, with KiB, MiB or GiB behind it or without.
func parseBytes(text string) (int64, error) {
	digits, factor := text, int64(1)
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			digits, factor = rest, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > envelope.MaxRate/factor {
		return 0, errEnvelopeLimit
	}
	return n * factor, nil
}

// addEnvelope registers a service and returns the limits of its tenant, which live on through reloads.
func (a *hmacApp) addEnvelope(s *EnvelopeService) (*envelope.Limits, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	rate, burst := s.Limit.numbers()
	for _, other := range a.envelopes {
		r, b := other.Limit.numbers()
		if other.Tenant == s.Tenant && (r != rate || b != burst) {
			return nil, fmt.Errorf("%s: the tenant %q is also served by %s, with another `limit` line; write the same line in both", s.where(), s.Tenant, other.where())
		}
	}
	ref, err := take[*envelope.Limits]("envelope limits " + s.Tenant)
	if err != nil {
		return nil, err
	}
	s.limits = ref
	a.envelopes = append(a.envelopes, s)
	return ref.open(func() (*envelope.Limits, func() error, error) {
		limits, err := envelope.NewLimits(rate, burst, nil)
		if err == nil {
			envelopeCounts.add(limits)
		}
		return limits, func() error { envelopeCounts.drop(limits); return nil }, err
	})
}

// start sets the numbers of this config.
func (s *EnvelopeService) start() error {
	limits, err := s.limits.open(nil) // open since Provision
	if err != nil {
		return err
	}
	return limits.Set(s.Limit.numbers())
}
