package caddymodule

import (
	"errors"
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// parseHMAC reads the site directive:
//
//	hmac_service {
//		subject NAME               # default: the site's host
//		ring NAME [existing]       # default: the subject; existing: never made here, but imported or there already
//		token_file PATH            # the callers' credential; or one of the next two, which may stand several times
//		peer uid NAME              # or gid: processes at the other end of a Unix socket
//		client_certificate FILE
//		recovery KEY | no_recovery
//		compat {                   # the original GET form; plain `compat` works too
//			max_rounds 100000
//		}
//		limit 200 burst 8192       # HMAC units per second
//	}
func parseHMAC(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // "hmac_service"
	warnAdmin(h)
	s := &HMACService{At: at(h.Dispenser)}
	if h.NextArg() {
		return nil, h.Errf("`hmac_service` takes a block and no matcher, not %q: its path is always /hmac-service", h.Val())
	}
	seen := map[string]bool{}
	for nesting := h.Nesting(); h.NextBlock(nesting); {
		word := h.Val()
		if holdsSecretHalf(word) {
			return nil, h.WrapErr(errSecretHalf)
		}
		if handled, err := s.unmarshalLine(h.Dispenser); err != nil {
			return nil, err
		} else if handled {
			continue
		}
		if seen[word] {
			return nil, h.Errf("%q stands twice", word)
		}
		seen[word] = true
		if err := s.line(h.Dispenser, word); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(s.check(), s.checkRecovery(remoteOption(h.Option("anteroom")))); err != nil {
		return nil, err
	}
	return h.NewRoute(nil, s), nil
}

// line reads one line of the block; the dispenser stands on its first word.
func (h *HMACService) line(d *caddyfile.Dispenser, word string) error {
	switch word {
	case "subject":
		return oneArg(d, &h.Subject)
	case "ring":
		return h.ringLine(d)
	case "recovery":
		return oneArg(d, &h.Recovery)
	case "no_recovery":
		h.NoRecovery = true
		if d.NextArg() {
			return d.Errf("no_recovery takes no value")
		}
		return nil
	case "compat":
		return h.compatBlock(d)
	case "limit":
		return h.limitLine(d)
	case "kms":
		return d.Errf("remove the line: a KMS that the option `master` names opens the ring by itself")
	}
	return d.Errf("unrecognized line %q; want one of subject, ring, "+callerWords+", recovery, no_recovery, compat, limit", word)
}

func (h *HMACService) ringLine(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if holdsSecretHalf(args...) {
		return d.Errf("ring: %w", errSecretHalf)
	}
	if len(args) != 1 && (len(args) != 2 || args[1] != "existing") {
		return d.Errf("ring wants a name, and the word existing when the ring is not to be made here: ring passwords existing")
	}
	h.Ring, h.Existing = args[0], len(args) == 2
	return nil
}

func (h *HMACService) compatBlock(d *caddyfile.Dispenser) error {
	h.Compat = new(HMACCompat)
	if d.NextArg() {
		return d.Errf("compat takes nothing, or a block with the line max_rounds, not %q", d.Val())
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "max_rounds" || h.Compat.MaxRounds != 0 {
			return d.Errf("unrecognized line %q in compat; want one line max_rounds", d.Val())
		}
		var text string
		if err := oneArg(d, &text); err != nil {
			return err
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1_000_000 {
			return d.Errf("max_rounds %s: write a number from 1 to 1000000", text)
		}
		h.Compat.MaxRounds = n
	}
	return nil
}

func (h *HMACService) limitLine(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 && (len(args) != 3 || args[1] != "burst") {
		return d.Errf("limit wants a number of units per second and, if you like, a burst: limit 200 burst 8192")
	}
	h.Limit = new(HMACLimit)
	for i, target := range []*int{&h.Limit.Units, &h.Limit.Burst} {
		if 2*i >= len(args) {
			break
		}
		n, err := strconv.Atoi(args[2*i])
		if err != nil || n < 1 || n > 1e8 {
			return d.Errf("limit %s: write a number from 1 to 100000000", args[2*i])
		}
		*target = n
	}
	return nil
}
