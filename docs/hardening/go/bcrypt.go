package main

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"golang.org/x/crypto/blowfish" //lint:ignore SA1019 bcrypt is made of it
)

// rehash computes bcrypt with a salt that is given ("$2b$12$" and 22 characters), which golang.org/x/crypto/bcrypt does not
// export. Passwords longer than 72 bytes are cut there, as bcrypt always did.
func rehash(password, salt string) (string, error) {
	if len(salt) != saltEnd || salt[:2] != "$2" || salt[3] != '$' || salt[6] != '$' {
		return "", errors.New("not the salt of a bcrypt hash")
	}
	cost, err := strconv.Atoi(salt[4:6])
	if err != nil || cost < 4 || cost > 16 {
		return "", errors.New("not the cost of a bcrypt hash")
	}
	raw, err := bcryptBase64.DecodeString(salt[7:])
	if err != nil {
		return "", errors.New("not the salt of a bcrypt hash")
	}
	key := append([]byte(password), 0)
	key = key[:min(len(key), 72)]
	c, err := blowfish.NewSaltedCipher(key, raw)
	if err != nil {
		return "", err
	}
	for range uint64(1) << cost {
		blowfish.ExpandKey(key, c)
		blowfish.ExpandKey(raw, c)
	}
	out := []byte("OrpheanBeholderScryDoubt")
	for i := 0; i < 24; i += 8 {
		for range 64 {
			c.Encrypt(out[i:i+8], out[i:i+8])
		}
	}
	return strings.TrimSpace(salt) + bcryptBase64.EncodeToString(out[:23]), nil
}

var bcryptBase64 = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding)
