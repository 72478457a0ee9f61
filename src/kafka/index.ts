/** `hence/kafka`: the log in a topic of Kafka. */

export { type KafkaLogOptions, kafkaLog } from './carrier.ts'
