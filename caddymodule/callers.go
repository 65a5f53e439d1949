package caddymodule

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/anteroom-proxy/anteroom/loopback"
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Callers are the programs on this host that may call a service. One of the ways is enough.
type Callers struct {
	// File with the callers' credential: at least 32 characters, not readable by others.
	TokenFile string `json:"token_file,omitempty"`
	// Users, by number or name, whose processes may call over a Unix socket. Where peer_uids or peer_gids is given, other
	// processes are refused on every Unix socket, whatever else they have.
	PeerUIDs []string `json:"peer_uids,omitempty"`
	// Groups, by number or name, whose processes may call over a Unix socket. It is the process' first group that counts.
	PeerGIDs []string `json:"peer_gids,omitempty"`
	// Client certificates: PEM files with one certificate or public key, or "sha256:" and the hash of the public key in
	// hexadecimal. The site's `tls` must ask for certificates (client_auth with a mode).
	ClientCertificates []string `json:"client_certificates,omitempty"`
}

// callerWords are the words of the lines, for messages.
const callerWords = "token_file, peer, client_certificate"

// callersRemedy says what to write when there is none.
const callersRemedy = "`token_file PATH` (a file of at least 32 characters, made with: openssl rand -hex 32), `peer uid NAME` for a Unix socket, or `client_certificate FILE`"

// given reports whether there is one.
func (c *Callers) given() bool {
	return c.TokenFile != "" || len(c.PeerUIDs)+len(c.PeerGIDs)+len(c.ClientCertificates) > 0
}

// unmarshalLine reads one line of the block when it is one of these; the dispenser stands on its first word. All but the
// first may stand several times.
//
//	token_file PATH
//	peer uid|gid NUMBER|NAME
//	client_certificate FILE|sha256:HEX
func (c *Callers) unmarshalLine(d *caddyfile.Dispenser) (handled bool, err error) {
	switch d.Val() {
	case "token_file":
		if c.TokenFile != "" {
			return true, d.Errf("%q stands twice", d.Val())
		}
		if err := oneArg(d, &c.TokenFile); err != nil {
			return true, err
		}
		if err := checkPath(c.TokenFile); err != nil {
			return true, d.Errf("token_file: %w", err)
		}
		return true, nil
	case "peer":
		args := d.RemainingArgs()
		if len(args) != 2 || args[0] != "uid" && args[0] != "gid" || args[1] == "" {
			return true, d.Errf("peer wants uid or gid and a number or name: peer uid www-data")
		}
		if err := checkPath(args[1]); err != nil { // a user's name has at most 32 characters
			return true, d.Errf("peer: %w", err)
		}
		if args[0] == "uid" {
			c.PeerUIDs = append(c.PeerUIDs, args[1])
		} else {
			c.PeerGIDs = append(c.PeerGIDs, args[1])
		}
		return true, nil
	case "client_certificate":
		var text string
		if err := oneArg(d, &text); err != nil {
			return true, err
		}
		if err := checkPath(text); err != nil {
			return true, d.Errf("client_certificate: %w", err)
		}
		c.ClientCertificates = append(c.ClientCertificates, text)
		return true, nil
	}
	return false, nil
}

// resolve reads the files and looks names up. where names the directive in messages.
func (c *Callers) resolve(where string) (loopback.Callers, error) {
	var found loopback.Callers
	var problems []error
	repl := caddy.NewReplacer()
	each := func(word string, list []string, use func(text string) error) {
		for _, text := range list {
			text, err := repl.ReplaceOrErr(text, true, true)
			if err == nil {
				err = use(strings.TrimSpace(text))
			}
			if err != nil {
				problems = append(problems, fmt.Errorf("%s: %s: %w", where, word, err))
			}
		}
	}
	if c.TokenFile != "" {
		each("token_file", []string{c.TokenFile}, func(path string) (err error) {
			found.Token, err = loopback.OpenTokenFile(path)
			return err
		})
	}
	each("peer uid", c.PeerUIDs, func(text string) error {
		id, err := idOf(text, "uid", func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
		found.UIDs = append(found.UIDs, id)
		return err
	})
	each("peer gid", c.PeerGIDs, func(text string) error {
		id, err := idOf(text, "gid", func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
		found.GIDs = append(found.GIDs, id)
		return err
	})
	each("client_certificate", c.ClientCertificates, func(text string) error {
		hash, err := loopback.ParseCertificate(text)
		found.Certificates = append(found.Certificates, hash)
		return err
	})
	if err := errors.Join(problems...); err != nil {
		return loopback.Callers{}, err
	}
	return found, nil
}

// idOf is the number of a user or group. The number that stands for everybody whom the kernel cannot map (processes of other
// user namespaces) is refused: on a list it would let every container in that the socket is mounted into.
func idOf(text, kind string, lookup func(string) (string, error)) (int, error) {
	if runtime.GOOS != "linux" {
		return -1, errors.New("only Linux tells who is at the other end of a Unix socket; use `token_file` or `client_certificate` here")
	}
	if strings.Trim(text, "0123456789") != "" {
		number, err := lookup(text)
		if err != nil {
			return -1, fmt.Errorf("%q is no %s of this host (%w); write the number, or the name of one that exists", text, kind, err)
		}
		text = number
	}
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil || id == 1<<32-1 {
		return -1, fmt.Errorf("%s is no %s; write a number from 0 to 4294967294", text, kind)
	}
	if int(id) == overflowID(kind) {
		return -1, fmt.Errorf("%d stands for every user and group that the kernel cannot name, in other containers too; give the calling program a user of its own", id)
	}
	return int(id), nil
}

// overflowID is the kernel's number for what it cannot map (proc(5), /proc/sys/kernel/overflowuid).
func overflowID(kind string) int {
	raw, err := os.ReadFile("/proc/sys/kernel/overflow" + kind)
	if err == nil {
		if id, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil {
			return id
		}
	}
	return 65534
}

// checkSite reports callers that could never come through the site: a certificate that nobody asks for, or a Unix socket that
// nobody listens on.
func (c *Callers) checkSite(srv *caddyhttp.Server, hosts []string, where string) error {
	var problems []error
	if len(c.ClientCertificates) > 0 && !asksForCertificates(srv, hosts) {
		problems = append(problems, fmt.Errorf("%s: client_certificate: the site asks no caller for a certificate; write the block `client_auth` with the line `mode request` (or `mode require`) into the block of its `tls` line", where))
	}
	if len(c.PeerUIDs)+len(c.PeerGIDs) > 0 && !listensOnUnix(srv) {
		problems = append(problems, fmt.Errorf("%s: peer: the site listens on no Unix socket, so no caller's user is known; write `bind unix//run/NAME.sock|0660` in it", where))
	}
	return errors.Join(problems...)
}

// listensOnUnix reports whether one of the server's listeners may be a Unix socket.
func listensOnUnix(srv *caddyhttp.Server) bool {
	return slices.ContainsFunc(srv.Listen, func(listen string) bool {
		addr, err := caddy.ParseNetworkAddress(listen)
		return err == nil && (addr.IsUnixNetwork() || addr.IsFdNetwork()) // what a handed-down socket is shows only when it is open
	})
}
