// Command go is the recipe for Go: an application whose table of bcrypt hashes is protected by /hmac-service, without asking
// anybody for a password.
//
// Copy hardening.go and bcrypt.go into your application: Open, then Wrap once, then Login at each sign-in and Protect for new
// passwords. main.go shows it on a table of three people and is run by a test against the real service.
//
// It promises that what stands in the table is bound to its uid (a record copied to another row does not match), that a wrong
// password and an unknown name take the same way, and that trouble with the service is an error and never "wrong password".
// It trusts the service and the file of its token. Standards: RFC 9457 problems, bcrypt as OpenBSD has it.
package main

import (
	"fmt"
	"os"

	"golang.org/x/crypto/bcrypt"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	p, err := Open(os.Getenv("HMAC_URL"), os.Getenv("HMAC_CA"), os.Getenv("HMAC_TOKEN_FILE"))
	if err != nil {
		return err
	}
	table := map[string]string{}
	for _, name := range []string{"alice", "bob", "carol"} {
		hash, err := bcrypt.GenerateFromPassword([]byte(name+"'s old password"), 5)
		if err != nil {
			return err
		}
		table[name] = string(hash)
	}
	if err := p.Wrap(table); err != nil {
		return err
	}
	fmt.Println("wrapped:", len(table))
	wrappedAlice := table["alice"]
	say := func(what, uid, password, column string) {
		if err != nil {
			return
		}
		var match bool
		var better string
		if match, better, err = p.Login(uid, password, column, "192.0.2.7"); err != nil {
			return
		}
		if match && better != "" {
			table[uid] = better
		}
		fmt.Println(what+":", map[bool]string{true: "yes", false: "no"}[match])
	}
	say("wrong password", "alice", "a guess", table["alice"])
	say("right password", "alice", "alice's old password", table["alice"])
	say("fresh record", "alice", "alice's old password", table["alice"])
	say("bob with alice's record", "bob", "alice's old password", table["alice"])
	say("bob with alice's wrapped hash", "bob", "alice's old password", wrappedAlice)
	say("nobody", "mallory", "a guess", "")
	if err == nil && table["alice"][:9] != "$anteroom" {
		err = fmt.Errorf("alice's column is %.20q", table["alice"])
	}
	return err
}
