#!/bin/sh
exec java -jar /usr/share/greet/greet.jar
