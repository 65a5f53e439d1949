package caddymodule

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

// parseGlobal reads the global option:
//
//	anteroom {
//		identity oidc NAME { … }      # see OIDC.UnmarshalCaddyfile; may be repeated
//		bearer NAME { … }             # see BearerIssuer.unmarshal; may be repeated
//		store bolt | redis URL        # left out: bolt; see Redis.UnmarshalCaddyfile
//		master local | awskms KEY {…} # left out: local; see MasterLocal.UnmarshalCaddyfile, MasterAWSKMS.UnmarshalCaddyfile
//		directory DIR                 # left out: "anteroom" under Caddy's data directory
//		audit DIR | off               # left out: "audit" in directory
//		session { … }                 # see SessionRule.unmarshal; `session role …` may be repeated
//		policy NAME { … }             # lines that sites take over with `use NAME`; may be repeated
//		network NAME CIDR…            # a name for networks in policies; may be repeated
//		contact TEXT                  # whom people ask who are refused
//		alarm webhook URL             # see Alarm.unmarshal; left out: alarms stand in the log
//		portal HOST[:PORT]            # left out: each site signs in by itself
//		prefix /.anteroom/
//	}
func parseGlobal(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // "anteroom"
	if existing != nil {
		return nil, d.Errf("the global option `anteroom` stands twice; put all lines into one block")
	}
	if d.NextArg() {
		return nil, d.Errf("the global option `anteroom` takes a block, not %q", d.Val())
	}
	app := new(App)
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		word := d.Val()
		if seen[word] && !slices.Contains(repeated, word) {
			return nil, d.Errf("%q stands twice", word)
		}
		seen[word] = true
		if err := app.globalLine(d, word); err != nil {
			return nil, err
		}
	}
	if _, err := lifetimes(app.Session); err != nil {
		return nil, d.WrapErr(err)
	}
	return httpcaddyfile.App{Name: "anteroom", Value: caddyconfig.JSON(app, nil)}, nil
}

// repeated are the lines that may stand several times.
var repeated = []string{"identity", "session", "bearer", "policy", "network"}

// globalLine reads one line of the block; the dispenser stands on its first word.
func (a *App) globalLine(d *caddyfile.Dispenser, word string) error {
	switch word {
	case "identity":
		return guest(d, "anteroom.identity", "source", func(raw json.RawMessage) { a.IdentityRaw = append(a.IdentityRaw, raw) })
	case "bearer":
		b := new(BearerIssuer)
		if err := b.unmarshal(d); err != nil {
			return err
		}
		a.Bearer = append(a.Bearer, b)
		return nil
	case "store":
		return guest(d, "anteroom.store", "module", func(raw json.RawMessage) { a.StoreRaw = raw })
	case "master":
		return a.masterLine(d)
	case "directory":
		if err := oneArg(d, &a.Directory); err != nil {
			return err
		}
		if !filepath.IsAbs(a.Directory) {
			return d.Errf("directory %q: write an absolute path", a.Directory)
		}
		return nil
	case "audit":
		if err := oneArg(d, &a.Audit); err != nil {
			return err
		}
		if a.Audit != "off" && !filepath.IsAbs(a.Audit) {
			return d.Errf("audit %q: write an absolute path of a folder, or off", a.Audit)
		}
		return nil
	case "session":
		var rule SessionRule
		if err := rule.unmarshal(d); err != nil {
			return err
		}
		a.Session = append(a.Session, rule)
		return nil
	case "policy":
		p := new(Policy)
		if err := p.unmarshal(d); err != nil {
			return err
		}
		a.Policies = append(a.Policies, p)
		return a.checkPolicies()
	case "network":
		return a.networkLine(d)
	case "contact":
		return oneArg(d, &a.Contact)
	case "alarm":
		a.Alarm = new(Alarm)
		return a.Alarm.unmarshal(d)
	case "portal":
		if err := oneArg(d, &a.Portal); err != nil {
			return err
		}
		if err := a.checkPortal(); err != nil {
			return d.WrapErr(err)
		}
		return nil
	case "prefix":
		if err := oneArg(d, &a.Prefix); err != nil {
			return err
		}
		if err := checkPrefix(a.Prefix); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
	return d.Errf("unrecognized line %q; want one of identity, bearer, store, directory, master, audit, session, policy, network, contact, alarm, portal, prefix", word)
}

// oneArg reads exactly one argument.
func oneArg(d *caddyfile.Dispenser, target *string) error {
	word := d.Val()
	if !d.AllArgs(target) || *target == "" {
		return d.Errf("%s takes exactly one value", word)
	}
	if holdsSecretHalf(*target) {
		return d.Errf("%s: %w", word, errSecretHalf)
	}
	return nil
}

// guest reads `WORD KIND …` as a guest module of the namespace and hands its JSON on.
func guest(d *caddyfile.Dispenser, namespace, inlineKey string, keep func(json.RawMessage)) error {
	word := d.Val()
	known := kindsOf(namespace)
	if !d.NextArg() {
		return d.Errf("%s needs a kind; want one of %s", word, strings.Join(known, ", "))
	}
	kind := d.Val()
	if !slices.Contains(known, kind) {
		return d.Errf("unknown kind %q of %s; want one of %s", kind, word, strings.Join(known, ", "))
	}
	module, err := caddyfile.UnmarshalModule(d, namespace+"."+kind)
	if err != nil {
		return err
	}
	var warnings []caddyconfig.Warning
	raw := caddyconfig.JSONModuleObject(module, inlineKey, kind, &warnings)
	if len(warnings) > 0 {
		return d.Errf("encoding %s %s: %s", word, kind, warnings[0].Message)
	}
	keep(raw)
	return nil
}

func kindsOf(namespace string) []string {
	var kinds []string
	for _, m := range caddy.GetModules(namespace) {
		kinds = append(kinds, m.ID.Name())
	}
	return kinds
}

// at is the position of the dispenser's token, kept in the JSON so that messages of a later stage
// can still name the line.
func at(d *caddyfile.Dispenser) string {
	return fmt.Sprintf("%s:%d", filepath.Base(d.File()), d.Line())
}
