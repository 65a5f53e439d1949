package caddymodule

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/envelope/awskms"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// MasterAWSKMS is a master key in AWS KMS. Credentials, and what is not set here, are found as by AWS' own tools. A `master.key`
// in the app's directory opens what it wrapped before, without a line of its own. All values may be placeholders.
type MasterAWSKMS struct {
	formerSite
	// ARN of the key or of an alias, or the key's id, or alias/NAME.
	KMSKey string `json:"key"`
	// Default: the ARN's, then AWS_REGION, then the profile's.
	Region string `json:"region,omitempty"`
	// URL of the KMS endpoint. Default: AWS_ENDPOINT_URL_KMS, then AWS' own.
	Endpoint string `json:"endpoint,omitempty"`
	// Profile of the shared config files. Default: AWS_PROFILE.
	Profile string `json:"profile,omitempty"`
	// ARN of a role to assume.
	Role string `json:"role,omitempty"`
	// URL of an HTTP proxy. Default: HTTPS_PROXY.
	Proxy string `json:"proxy,omitempty"`
	// How long a data key is used without asking KMS again: for so long all goes on when KMS is away. Default: 15m.
	CacheAge caddy.Duration `json:"cache_age,omitempty"`
	// How many times. Default: 1000000.
	CacheUses int64 `json:"cache_uses,omitempty"`
	// Where the line stands, for messages.
	At string `json:"at,omitempty"`

	conf awskms.Config
}

// CaddyModule returns the module's information.
func (*MasterAWSKMS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "anteroom.master.awskms", New: func() caddy.Module { return new(MasterAWSKMS) }}
}

// UnmarshalCaddyfile reads
//
//	master awskms KEY {
//		region   eu-central-1
//		endpoint https://vpce-….kms.eu-central-1.vpce.amazonaws.com
//		profile  NAME
//		role     ARN
//		proxy    http://proxy.example:3128
//		cache    AGE [USES]                     # left out: 15m 1000000
//		former   local FILE | awskms KEY { … }  # what wrapped the data keys before; may be repeated
//	}
func (m *MasterAWSKMS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // "awskms"
	m.At = at(d)
	if !d.AllArgs(&m.KMSKey) {
		return d.Errf("awskms takes one key: its ARN (arn:aws:kms:REGION:ACCOUNT:key/ID), its id, or alias/NAME")
	}
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		if seen[word] && word != "former" {
			return d.Errf("%q stands twice", word)
		}
		seen[word] = true
		if err := m.line(d, word); err != nil {
			return err
		}
	}
	if strings.Contains(m.KMSKey+m.Region+m.Endpoint+m.Role+m.Proxy, "{") {
		return nil // what placeholders stand for is known where the program runs
	}
	if _, err := m.config(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (m *MasterAWSKMS) line(d *caddyfile.Dispenser, word string) error {
	single := map[string]*string{"region": &m.Region, "endpoint": &m.Endpoint, "profile": &m.Profile, "role": &m.Role, "proxy": &m.Proxy}
	switch {
	case single[word] != nil:
		return oneArg(d, single[word])
	case word == "cache":
		return m.cacheLine(d)
	case word == "former":
		return m.formerLine(d)
	}
	return d.Errf("unrecognized line %q of awskms; want one of region, endpoint, profile, role, proxy, cache, former", word)
}

func (m *MasterAWSKMS) cacheLine(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 && len(args) != 2 {
		return d.Errf("cache takes an age and, if you like, a number of uses, for example: cache 15m 1000000")
	}
	age, err := caddy.ParseDuration(args[0])
	if err != nil {
		return d.Errf("cache %q: write a duration like 15m", args[0])
	}
	m.CacheAge = caddy.Duration(age)
	if len(args) == 2 {
		if m.CacheUses, err = strconv.ParseInt(args[1], 10, 64); err != nil || m.CacheUses <= 0 {
			return d.Errf("cache: %q is not a number of uses", args[1])
		}
	}
	if err := checkCache(age, m.CacheUses); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

const (
	minCacheAge, maxCacheAge = time.Second, 24 * time.Hour
	minCacheUses             = 100
)

// checkCache keeps each request from asking KMS, and a key whose use KMS refuses from living on for days.
func checkCache(age time.Duration, uses int64) error {
	if age < minCacheAge || age > maxCacheAge || uses != 0 && uses < minCacheUses {
		return fmt.Errorf("cache: write an age from %s to %s and at least %d uses", minCacheAge, maxCacheAge, minCacheUses)
	}
	return nil
}

// Provision resolves the placeholders and checks what can be checked without asking anybody.
func (m *MasterAWSKMS) Provision(ctx caddy.Context) (err error) {
	if m.conf, err = m.config(); err != nil {
		return fmt.Errorf("%s: %w", m.where(), err)
	}
	if m.CacheAge != 0 || m.CacheUses != 0 {
		if err := checkCache(max(time.Duration(m.CacheAge), minCacheAge), m.CacheUses); err != nil {
			return fmt.Errorf("%s: %w", m.where(), err)
		}
	}
	return m.provisionFormer(ctx)
}

func (m *MasterAWSKMS) where() string {
	if m.At == "" {
		return "master awskms"
	}
	return m.At + ": master awskms"
}

func (m *MasterAWSKMS) config() (awskms.Config, error) {
	repl := caddy.NewReplacer()
	var c awskms.Config
	for _, f := range []struct {
		name, value string
		target      *string
	}{
		{"key", m.KMSKey, &c.Key}, {"region", m.Region, &c.Region}, {"endpoint", m.Endpoint, &c.Endpoint},
		{"profile", m.Profile, &c.Profile}, {"role", m.Role, &c.Role}, {"proxy", m.Proxy, &c.Proxy},
	} {
		v, err := repl.ReplaceOrErr(f.value, true, true)
		if err != nil && f.value != "" {
			return awskms.Config{}, fmt.Errorf("%s: %w", f.name, err)
		}
		*f.target = strings.TrimSpace(v)
	}
	return c, c.Check()
}

// Key tells two settings apart. A proxy's URL may hold a password, so the settings are hashed.
func (m *MasterAWSKMS) Key(dir string) string {
	c := m.conf
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %q %d %d", c.Region, c.Endpoint, c.Profile, c.Role, c.Proxy, m.CacheAge, m.CacheUses))
	return fmt.Sprintf("awskms %s %x%s", c.Key, sum[:8], m.formerKey(dir))
}

func (m *MasterAWSKMS) cache() (time.Duration, int64) { return time.Duration(m.CacheAge), m.CacheUses }

// Open finds the key and its predecessors. A key file in the directory is one: so that `master awskms KEY` is the one line that
// changes.
func (m *MasterAWSKMS) Open(ctx context.Context, dir string, logger *slog.Logger) (envelope.Master, []envelope.Master, error) {
	former, err := m.openFormer(ctx, dir, logger)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", m.where(), err)
	}
	for _, file := range []string{filepath.Join(dir, "master.key"), filepath.Join(dir, "master.key"+nextKeySuffix)} { // the next one, of a replacement that was cut short
		if !exists(file) {
			continue
		}
		local, err := envelope.OpenLocal(file)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: the key file that came before it: %w", m.where(), err)
		}
		former = append(former, envelope.Found{Master: local}) // it lay there: nobody named it
	}
	kms, err := m.connect(ctx, logger)
	if err != nil {
		return nil, nil, err
	}
	return kms, unique(kms, former), nil
}

func (m *MasterAWSKMS) connect(ctx context.Context, logger *slog.Logger) (*awskms.Master, error) {
	c := m.conf
	c.Logger, c.Observe = logger, countKMS
	kms, err := awskms.New(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.where(), err)
	}
	return kms, nil
}

var _ Master = (*MasterAWSKMS)(nil)
