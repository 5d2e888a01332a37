<?php
namespace App;
class Greeting { public static function text(): string { return "hello\n"; } }
