package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/hardening"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// Master is a guest module of the namespace anteroom.master: the key that wraps all data keys.
type Master interface {
	// Key tells two settings apart: a running program keeps the master that it began with.
	Key(dir string) string
	// Open opens it and those that came before it, which only open what they wrapped; called in Start, never while a config is only
	// validated.
	Open(ctx context.Context, dir string, logger *slog.Logger) (envelope.Master, []envelope.Master, error)
	// cache is how long, and how many times, a data key is used without asking again; zero: the defaults.
	cache() (age time.Duration, uses int64)
}

// masterSite is a part of the config that a master belongs to: the app, or a certificate storage.
type masterSite struct {
	// What wraps the data keys: a key file, or a key in AWS KMS. Default: the file `master.key` in Directory.
	MasterRaw json.RawMessage `json:"master,omitempty" caddy:"namespace=anteroom.master inline_key=module"`

	master Master // after provisionMaster; nil: the default
}

// masterLine reads
//
//	master local [FILE]        # see MasterLocal.UnmarshalCaddyfile
//	master awskms KEY { … }    # see MasterAWSKMS.UnmarshalCaddyfile
func (m *masterSite) masterLine(d *caddyfile.Dispenser) error {
	return guest(d, "anteroom.master", "module", func(raw json.RawMessage) { m.MasterRaw = raw })
}

// provisionMaster loads the module. It asks nobody.
func (m *masterSite) provisionMaster(ctx caddy.Context) error {
	if m.MasterRaw == nil {
		return nil
	}
	guest, err := ctx.LoadModule(m, "MasterRaw")
	if err != nil {
		return fmt.Errorf("loading the master key: %w", err)
	}
	m.master = guest.(Master)
	return nil
}

// from is the configured master, or the default.
func (m *masterSite) from() Master {
	if m.master == nil {
		return &MasterLocal{}
	}
	return m.master
}

// open opens the configured master and its predecessors.
func (m *masterSite) open(dir string) (masters, error) {
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	from := m.from()
	now, former, err := from.Open(ctx, dir, poolLogger("master"))
	if err != nil {
		return masters{}, fmt.Errorf("opening the master key: %w", err)
	}
	opened := masters{master: now, former: former, key: from.Key(dir), dir: dir}
	opened.age, opened.uses = from.cache()
	return opened, nil
}

// same refuses a master that is not the one that runs: whoever seals now would go on with the old one, unnoticed.
func (m *masterSite) same(dir, running string) error {
	if m.from().Key(dir) == running {
		return nil
	}
	return errMasters
}

var errMasters = errors.New("the lines `master` are not those that the running program opened its store with: when they were changed, restart Anteroom (a reload cannot change them); when both `store redis` and `storage anteroom_redis` are there, write the same lines into both")

// remote reports whether the master lives in another machine.
func (m *masterSite) remote() bool {
	_, local := m.from().(*MasterLocal)
	return !local
}

// remoteOption is the same of the parsed option `anteroom`, while a Caddyfile is adapted.
func remoteOption(option any) bool {
	app, ok := option.(httpcaddyfile.App)
	var named struct {
		Master struct {
			Module string `json:"module"`
		} `json:"master"`
	}
	return ok && json.Unmarshal(app.Value, &named) == nil && named.Master.Module != "" && named.Master.Module != "local"
}

// wrapper is the master as a recipient of key rings, nil for a key file: whoever takes this machine's disk has that file, and a ring
// is for what a taken disk must not open.
func (m masters) wrapper() hardening.Wrapper {
	if _, local := m.master.(*envelope.Local); local || m.master == nil {
		return nil
	}
	return m.master
}

// lateWrapper is the master as a recipient of key rings, from the moment on at which it is open.
type lateWrapper struct{ store *lateStore }

func (l lateWrapper) now() (hardening.Wrapper, error) {
	if s := l.store.p.Load(); s != nil && s.begun() == nil {
		if w := s.masters.wrapper(); w != nil {
			return w, nil
		}
	}
	return nil, fmt.Errorf("the master key is not open yet: %w", envelope.ErrUnavailable)
}

// ID implements hardening.Wrapper.
func (l lateWrapper) ID() string {
	w, err := l.now()
	if err != nil {
		return "not open yet"
	}
	return w.ID()
}

// Wrap implements hardening.Wrapper.
func (l lateWrapper) Wrap(ctx context.Context, plain []byte, context map[string]string) ([]byte, error) {
	w, err := l.now()
	if err != nil {
		return nil, err
	}
	return w.Wrap(ctx, plain, context)
}

// Unwrap implements hardening.Wrapper.
func (l lateWrapper) Unwrap(ctx context.Context, wrapped []byte, context map[string]string) ([]byte, error) {
	w, err := l.now()
	if err != nil {
		return nil, err
	}
	return w.Unwrap(ctx, wrapped, context)
}

// formerSite has the masters that came before.
type formerSite struct {
	// Masters that only open what they wrapped, until `anteroom keys migrate` has moved it.
	FormerRaw []json.RawMessage `json:"former,omitempty" caddy:"namespace=anteroom.master inline_key=module"`

	former []Master
}

func (f *formerSite) formerLine(d *caddyfile.Dispenser) error {
	return guest(d, "anteroom.master", "module", func(raw json.RawMessage) { f.FormerRaw = append(f.FormerRaw, raw) })
}

func (f *formerSite) provisionFormer(ctx caddy.Context) error {
	if f.FormerRaw == nil {
		return nil
	}
	guests, err := ctx.LoadModule(f, "FormerRaw")
	if err != nil {
		return fmt.Errorf("loading a former master key: %w", err)
	}
	for _, g := range guests.([]any) {
		f.former = append(f.former, g.(Master))
	}
	return nil
}

// openFormer opens them, those that they name as predecessors among them.
func (f *formerSite) openFormer(ctx context.Context, dir string, logger *slog.Logger) ([]envelope.Master, error) {
	var all []envelope.Master
	for _, m := range f.former {
		opener := m
		if l, ok := m.(*MasterLocal); ok {
			opener = l.existing()
		}
		one, more, err := opener.Open(ctx, dir, logger)
		if err != nil {
			return nil, fmt.Errorf("former: %w", err)
		}
		all = append(append(all, one), more...)
	}
	return all, nil
}

func (f *formerSite) formerKey(dir string) string {
	var key string
	for _, m := range f.former {
		key += " former " + m.Key(dir)
	}
	return key
}

// unique leaves out who stands there twice, and the master itself.
func unique(m envelope.Master, former []envelope.Master) []envelope.Master {
	seen := map[string]bool{m.ID(): true}
	var all []envelope.Master
	for _, f := range former {
		if !seen[f.ID()] {
			seen[f.ID()] = true
			all = append(all, f)
		}
	}
	return all
}
