// Command tradestore accepts trades over HTTP, keeps them in Kafka until they are stored, and stores them in
// PostgreSQL.
// `tradestore --help` lists its subcommands; they are in package cmd.
package main

import "tradestore/cmd"

func main() { cmd.Main() }
